// An app on Node's own `http`, which also asks other apps, all of them through one address.
//
// Arguments: its name, and that address. `/via/ANOTHER/...` asks ANOTHER for `/via/...`, passing on what
// it was sent; `/via` is answered. Every answer tells what was seen of the request.

"use strict";

const http = require("node:http");

const [name, outbound] = process.argv.slice(2);
const [host, port] = outbound.split(":");

async function whole(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

function ask(other, rest, method, fields, body) {
  return new Promise((resolve, reject) => {
    const headers = { ...fields, host: `${other}.mesh`, "content-length": Buffer.byteLength(body) };
    const path = ["/via", ...rest].join("/");
    const request = http.request({ host, port, method, path, headers }, async (answer) => {
      try {
        const text = await whole(answer);
        if (answer.statusCode !== 200) throw new Error(`${other} answered ${answer.statusCode}: ${text}`);
        resolve(JSON.parse(text));
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
    request.end(body);
  });
}

const server = http.createServer(async (request, response) => {
  const body = await whole(request);
  const fields = request.headersDistinct;
  const seen = {
    app: name,
    method: request.method,
    body,
    callers: fields["x-forwarded-client-cert"] ?? [],
    next: null,
  };
  let status = 200;
  const [, , ...names] = request.url.split("/");
  if (names.length > 0) {
    const isPassedOn = ([name]) => name.startsWith("x-");
    const passedOn = Object.fromEntries(Object.entries(fields).filter(isPassedOn));
    try {
      seen.next = await ask(names[0], names.slice(1), request.method, passedOn, body);
    } catch (error) {
      status = 502;
      seen.error = String(error);
    }
  }
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(seen));
});

server.listen(0, "127.0.0.1", () => {
  console.log(`listening 127.0.0.1:${server.address().port}`);
});
