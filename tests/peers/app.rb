# An app on WEBrick, which also asks other apps by `net/http`, all of them through one address.
#
# Arguments: its name, and that address. `/via/ANOTHER/...` asks ANOTHER for `/via/...`, passing on what
# it was sent; `/via` is answered. Every answer tells what was seen of the request.

require "json"
require "net/http"
require "webrick"

NAME, OUTBOUND = ARGV
HOST, PORT = OUTBOUND.split(":")
SECONDS_MAX = 60

def ask(name, rest, method, fields, body)
  request = Net::HTTP.const_get(method.capitalize).new(["/via", *rest].join("/"))
  fields.each { |field, value| request[field] = value }
  request["Host"] = "#{name}.mesh"
  request.body = body if request.request_body_permitted?
  # No proxy, whatever the environment says.
  answer = Net::HTTP.start(HOST, PORT.to_i, nil, read_timeout: SECONDS_MAX) do |connection|
    connection.request(request)
  end
  raise "#{name} answered #{answer.code}: #{answer.body}" unless answer.code == "200"

  JSON.parse(answer.body)
end

server = WEBrick::HTTPServer.new(
  BindAddress: "127.0.0.1",
  Port: 0,
  Logger: WEBrick::Log.new($stderr, WEBrick::Log::WARN),
  AccessLog: [],
)
server.mount_proc("/via") do |request, response|
  body = request["content-length"] ? request.body.to_s : ""
  seen = {
    app: NAME,
    method: request.request_method,
    body: body,
    callers: request.header["x-forwarded-client-cert"],
    next: nil,
  }
  _, _, *names = request.path.split("/")
  unless names.empty?
    passed_on = request.header.select { |name, _| name.start_with?("x-") }
    passed_on.transform_values! { |values| values.join(", ") }
    begin
      seen[:next] = ask(names[0], names.drop(1), request.request_method, passed_on, body)
    rescue StandardError => error
      response.status = 502
      seen[:error] = error.to_s
    end
  end
  response.content_type = "application/json"
  response.body = JSON.generate(seen)
end

$stdout.puts("listening 127.0.0.1:#{server.listeners[0].addr[1]}")
$stdout.flush
server.start
