#include "spec/coded_tensors.h"

#include "base/checked.h"
#include "base/error.h"

namespace moegen {
namespace {

std::vector<TensorSpec> mxfp4_tensors(const TensorSpec& whole) {
  TensorSpec codes = whole;
  const int64_t rows = whole.shape[0], blocks = whole.shape[1] / kF4Block;
  codes.form = Form::rows;
  codes.quantised = DType::f4;
  codes.file_dtype = DType::u8;
  codes.file_shape = {whole.file_shape[0], rows, blocks, kF4Block / 2};
  TensorSpec scales = codes;
  codes.name += "_blocks";
  scales.part = Part::scales;
  scales.name += "_scales";
  scales.quantised = DType::f8_e8m0;
  scales.shape = {rows, blocks};
  scales.file_shape.pop_back();
  return {codes, scales};
}

struct Parts {
  TensorSpec codes, scales, zeros;
};

void place_by_inputs(Parts& p, const WeightScheme& s, const std::string& module) {
  const int64_t rows = p.codes.shape[0], cols = p.codes.shape[1], groups = p.scales.shape[1], in_word = 32 / s.bits;
  const bool awq = s.format == WeightFormat::awq;
  p.codes.name = module + ".qweight";
  p.codes.form = awq ? Form::awq_words : Form::words_along;
  p.codes.file_shape = awq ? std::vector{cols, rows / in_word} : std::vector{cols / in_word, rows};
  p.codes.order_beside = !awq;
  p.scales.name = module + ".scales";
  p.scales.quantised = DType::f16;
  p.scales.form = Form::turned;
  p.scales.file_shape = {groups, rows};
  p.zeros.name = module + ".qzeros";
  p.zeros.form = awq ? Form::awq_words : s.less_one ? Form::words_less_one : Form::words;
  p.zeros.file_shape = {groups, rows / in_word};
}

void place_by_outputs(Parts& p, const WeightScheme& s, bool zeros_in_bytes) {
  const int64_t rows = p.codes.shape[0], cols = p.codes.shape[1], in_word = 32 / s.bits;
  p.scales.name += "_scale";
  p.scales.file_shape = p.scales.shape;
  p.zeros.name += "_zero_point";
  p.zeros.form = Form::words_down;
  p.zeros.file_shape = {ceil_div(rows, in_word), p.zeros.shape[1]};
  if (s.format == WeightFormat::bytes) {
    p.codes.form = Form::signed_bytes;
    p.codes.file_dtype = DType::i8;
    p.codes.file_shape = p.codes.shape;
  } else {
    p.codes.name += "_packed";
    p.codes.file_shape = {rows, cols / in_word};
  }
  if (s.format == WeightFormat::bytes || zeros_in_bytes) {
    p.zeros.form = Form::signed_bytes;
    p.zeros.file_dtype = DType::i8;
    p.zeros.file_shape = p.zeros.shape;
  }
}

}  // namespace

bool is_whole_words(const TensorSpec& whole, const WeightScheme& s) {
  const bool by_inputs = s.format == WeightFormat::gptq || s.format == WeightFormat::awq;
  return !by_inputs || whole.shape[0] % (32 / s.bits) == 0;
}

std::vector<TensorSpec> coded_tensors(const TensorSpec& whole, const WeightScheme& s, bool zeros_in_bytes) {
  if (s.format == WeightFormat::mxfp4) return mxfp4_tensors(whole);
  const int64_t rows = whole.shape[0], cols = whole.shape[1], in_word = 32 / s.bits;
  const int64_t group = s.group > 0 ? s.group : cols;
  const bool by_inputs = s.format == WeightFormat::gptq || s.format == WeightFormat::awq;
  if (group % kGroupUnit != 0 || cols % group != 0 || !is_whole_words(whole, s)) {
    throw_error(ErrorCode::unsupported,
                "{} [{},{}]: quantization_config has it in groups of {}; rows of whole groups, multiples of {}, are supported{}", whole.name, rows,
                cols, group, kGroupUnit, by_inputs ? fmt::format(", and multiples of {} rows", in_word) : "");
  }
  Parts p{whole, whole, whole};
  p.codes.quantised = s.bits == 4 ? DType::i4 : DType::u8;
  p.codes.group = group;
  p.codes.file_dtype = p.zeros.file_dtype = DType::i32;
  p.codes.code_bits = p.zeros.code_bits = s.bits;
  p.scales.part = Part::scales;
  p.zeros.part = Part::zeros;
  p.zeros.quantised = DType::u8;
  p.scales.shape = p.zeros.shape = {rows, cols / group};
  if (by_inputs) {
    place_by_inputs(p, s, whole.name.substr(0, whole.name.rfind('.')));
  } else {
    place_by_outputs(p, s, zeros_in_bytes);
  }
  std::vector<TensorSpec> out{p.codes, p.scales};
  if (s.zeros) out.push_back(p.zeros);
  return out;
}

}  // namespace moegen
