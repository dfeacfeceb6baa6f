#include "tokenizer/chat_template.h"
#include "base/error.h"
namespace moegen {
struct Template::Impl {};
Template::Template(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;
Template Template::parse(const std::string&) { throw_error(ErrorCode::unsupported, "not yet"); }
std::string Template::render(const nlohmann::ordered_json&, const std::optional<std::string>&) const { return {}; }
struct ChatTemplate::Impl {};
ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;
ChatTemplate ChatTemplate::load(const std::filesystem::path&) { return ChatTemplate(std::make_unique<Impl>()); }
bool ChatTemplate::has_template() const { return false; }
std::string ChatTemplate::render(const ChatRequest&) const { throw_error(ErrorCode::unsupported, "not yet"); }
}  // namespace moegen
