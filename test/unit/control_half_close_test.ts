import assert from "node:assert/strict";
import { join } from "node:path";
import { serveControl } from "../../lib/control.ts";

async function half(lines: string): Promise<string> {
  const directory = await Deno.makeTempDir();
  try {
    const path = join(directory, "x.sock");
    await using _server = await serveControl(path, {
      *flows() {
        for (let i = 0; i < 2000; i++) yield { flow: i, pad: "x".repeat(100) };
      },
      *stats() {
        yield { stats: 1 };
      },
    });
    using client = await Deno.connect({ transport: "unix", path });
    await client.write(new TextEncoder().encode(lines));
    await client.closeWrite();
    return await new Response(client.readable).text();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("control: a client that has ended its sending still gets all answers", async () => {
  const text = await half(`{"request":"flows"}\n`);
  assert.equal(text.trimEnd().split("\n").length, 2001);
  assert.match(text, /\{"ok":true\}\n$/);
});

Deno.test("control: a last line without its end is a request, too", async () => {
  assert.equal(await half(`{"request":"stats"}`), `{"stats":1}\n{"ok":true}\n`);
});
