import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { storeDirectory } from "../../lib/lab/servers.ts";
import { assertSameBytes, ECHO, onStage, WEB } from "./stage.ts";

onStage(
  "survive: a download, an upload and an echo at once outlive one failure, byte by byte",
  async (stage) => {
    await stage.webServers(20 << 20);
    await stage.echoServers();
    await stage.protect(WEB, ECHO);

    const echo = stage.connect(7);
    assert.equal(await echo.echo("before"), "before");

    const upload = stage.connect(80);
    const body = randomFillSync(new Uint8Array(8 << 20));
    const half = body.length / 2;
    await upload.write(
      `PUT /store/sent HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    await upload.write(body.subarray(0, half));

    const download = await stage.download();
    const first = await download.read(5 << 20);
    assertSameBytes(first, stage.content.subarray(0, first.length));

    const active = await stage.failOver();
    assert.equal(active.flows, 3);
    assert.equal(active.flows_lost, 0);

    assert.equal(await echo.echo("after"), "after");
    await upload.write(body.subarray(half));
    assert.match(await upload.readTo("\r\n"), /^HTTP\/1\.1 201 /);
    assertSameBytes(await Deno.readFile(`${storeDirectory(stage.scratch, "backup")}/sent`), body);
    const left = stage.content.subarray(first.length);
    assertSameBytes(await download.read(left.length), left);
    for (const connection of [echo, download]) assert.equal((await connection.end()).length, 0);
    await upload.end();
  },
);
