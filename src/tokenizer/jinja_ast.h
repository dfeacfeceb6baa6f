#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/jinja_value.h"
#include "tokenizer/message_content.h"

namespace moegen::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<const Expr>;
using Body = std::vector<std::unique_ptr<const Stmt>>;

enum class ExprKind : uint8_t {
  constant,     // value
  name,         // name
  list,         // items
  tuple,        // items
  dict,         // items: key, value, key, value ..
  negative,     // items[0]
  positive,     // items[0]
  logical_not,  // items[0]
  logical_and,  // items
  logical_or,   // items
  binary,       // items[0] op items[1]
  compare,      // items[0] ops[0] items[1] ops[1] items[2] ..
  concat,       // items
  condition,    // items[0] if items[1] else items[2]; the third may be null
  attribute,    // items[0].name
  item,         // items[0][items[1]]
  slice,        // items[0][items[1]:items[2]:items[3]]; the last three may be null
  call,         // items[0](items[1..], named)
  filter,       // items[0] | name(items[1..], named)
  test,         // items[0] is name(items[1..], named)
};

struct Expr {
  ExprKind kind;
  size_t line = 0;
  uint32_t depth = 1;  ///< of the tree below
  std::string name = {};
  Value value = {};
  std::vector<ExprPtr> items = {};
  std::vector<std::string> ops = {};
  std::vector<std::pair<std::string, ExprPtr>> named = {};
  ExprPtr star = {};       ///< *arguments of a call
  ExprPtr star_star = {};  ///< **arguments of a call
};

/// What an assignment writes to: a name, an attribute of a namespace, or several of them.
struct Target {
  std::string name;
  std::string attribute;      ///< of the namespace `name`, where not empty
  std::vector<Target> parts;  ///< unpacking, where not empty
};

enum class StmtKind : uint8_t {
  data,
  print,
  conditional,
  loop,
  set,
  set_block,
  macro,
  call_block,
  filter_block,
  with,
  scoped,
  block,
  break_loop,
  continue_loop
};

struct Branch {
  ExprPtr condition;  ///< null: else
  Body body;
};

struct Parameters {
  std::vector<std::string> names;
  std::vector<ExprPtr> defaults;  ///< of the last ones
  bool takes_varargs = false;     ///< the body reads `varargs`
  bool takes_kwargs = false;
  bool takes_caller = false;
};

struct Stmt {
  StmtKind kind;
  size_t line = 0;
  std::string text = {};              ///< data; the name of a macro or block
  ExprPtr expr = {};                  ///< print; what a loop runs over; the value set; the call; the filter (of an empty constant)
  ExprPtr condition = {};             ///< a loop's `if`
  Target target = {};                 ///< of loop and set
  std::vector<Branch> branches = {};  ///< of conditional
  Body body = {};
  Body otherwise = {};                                       ///< a loop's else
  Parameters parameters = {};                                ///< of macro and call_block
  std::vector<std::pair<Target, ExprPtr>> assignments = {};  ///< of with
  bool recursive = false;                                    ///< of loop; of block: it is "scoped"
};

struct TemplateTree {
  Body body;
  ContentUse content;
};

}  // namespace moegen::jinja
