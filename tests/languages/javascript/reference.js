// The reference filter in JavaScript: continues or starts a trace, refuses one path, and tells the
// client the trace id.
//
// An exception that is no error of the hook is a failure of the filter.

import log from "pillion:filter/log@0.1.0";
import notes from "pillion:filter/notes@0.1.0";
import random from "pillion:filter/random@0.1.0";
import request from "pillion:filter/request@0.1.0";
import response from "pillion:filter/response@0.1.0";

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/;

let refuse = "/private";

export const configure = {
    configure(config) {
        for (const [key, value] of Object.entries(JSON.parse(config))) {
            if (key !== "refuse") {
                throw { key, message: "no such key: there is `refuse`" };
            }
            if (typeof value !== "string" || !value.startsWith("/")) {
                throw { key, message: "a path begins with `/`" };
            }
            refuse = value;
        }
    },
};

export const onRequest = {
    onRequest() {
        const path = request.path();
        if (path === refuse) {
            log.write("warn", `refused ${path}`);
            const headers = [{ name: "content-type", value: bytes("text/plain") }];
            return { tag: "respond", val: { status: 403, headers, body: bytes("not for you\n") } };
        }
        const lines = request.headerAll("traceparent");
        const valid = lines.length === 1 ? TRACEPARENT.exec(lines[0]) : null;
        let trace, flags;
        if (valid) {
            [, trace, flags] = valid;
        } else {
            request.removeHeader("tracestate");
            [trace, flags] = [hex(random.bytes(16)), "01"];
        }
        const parent = hex(random.bytes(8));
        request.setHeader("traceparent", `00-${trace}-${parent}-${flags}`);
        notes.setNote("reference.trace", trace);
        return { tag: "proceed" };
    },
};

export const onResponse = {
    onResponse() {
        const trace = notes.note("reference.trace");
        if (trace !== null) {
            response.setHeader("x-trace-id", trace);
        }
        return { tag: "proceed" };
    },
};

function bytes(ascii) {
    return Uint8Array.from(ascii, (character) => character.charCodeAt(0));
}

function hex(bytes) {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
