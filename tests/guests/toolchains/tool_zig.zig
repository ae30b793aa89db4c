// One guest of Zig with its standard library and no libc: the first argument says what to do; see
// tests/integration/test_toolchains.py for what must come out.

const std = @import("std");
const Io = std.Io;

fn files(io: Io, preopens: std.process.Preopens, out: *Io.Writer) !void {
    const data = preopens.get("/data").?.dir;
    const given = preopens.get("/read").?.dir;
    var text: [64]u8 = undefined;
    try data.createDirPath(io, "made/deep");
    var made = try data.openDir(io, "made", .{ .iterate = true });
    defer made.close(io);
    try made.writeFile(io, .{ .sub_path = "one", .data = "first line\nsecond line\n" });
    var file = try made.openFile(io, "one", .{ .mode = .read_write });
    const got = try file.readPositionalAll(io, &text, 6);
    if (!std.mem.eql(u8, text[0..got], "line\nsecond line\n")) return error.Content;
    try file.writePositionalAll(io, "LINE", 6);
    try file.setLength(io, 11);
    try file.sync(io);
    if (try file.length(io) != 11) return error.Length;
    file.close(io);
    try made.rename("one", made, "two", io);
    try made.writeFile(io, .{ .sub_path = "deep/three", .data = "x" });
    try list(io, made, out);
    if (!std.mem.eql(u8, try made.readFile(io, "two", &text), "first LINE\n")) return error.Content;
    try made.deleteFile(io, "two");
    try made.deleteFile(io, "deep/three");
    try made.deleteDir(io, "deep");
    if (data.openFile(io, "../secret", .{})) |_| return error.Escaped else |_| {}
    if (given.createFile(io, "new", .{})) |_| return error.Written else |_| {}
    try out.writeAll(try given.readFile(io, "given", &text));
}

fn list(io: Io, folder: Io.Dir, out: *Io.Writer) !void {
    var deep: usize = 0;
    var two: usize = 0;
    var entries = folder.iterate();
    while (try entries.next(io)) |entry| {
        deep += @intFromBool(std.mem.eql(u8, entry.name, "deep") and entry.kind == .directory);
        two += @intFromBool(std.mem.eql(u8, entry.name, "two") and entry.kind == .file);
    }
    if (deep == 1 and two == 1) try out.writeAll("deep two\n");
}

fn passes(io: Io, out: *Io.Writer) !void {
    const before = Io.Timestamp.now(io, .awake);
    try io.sleep(.fromMilliseconds(3), .awake);
    if (before.durationTo(Io.Timestamp.now(io, .awake)).toMilliseconds() < 3) return error.Short;
    if (Io.Timestamp.now(io, .real).toSeconds() < 1_700_000_000) return error.Past;
    try out.writeAll("time passed\n");
}

fn differs(io: Io, out: *Io.Writer) !void {
    var one: [16]u8 = undefined;
    var other: [16]u8 = undefined;
    io.random(&one);
    io.random(&other);
    if (std.mem.eql(u8, &one, &other)) return error.Same;
    try out.writeAll("random\n");
}

fn upper(io: Io, out: *Io.Writer) !void {
    var buffer: [256]u8 = undefined;
    var in = Io.File.stdin().readerStreaming(io, &buffer);
    while (in.interface.takeByte()) |byte| {
        try out.writeByte(std.ascii.toUpper(byte));
    } else |failure| if (failure != error.EndOfStream) return failure;
}

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const args = try init.minimal.args.toSlice(init.arena.allocator());
    const what = if (args.len > 1) args[1] else "hello";
    var buffer: [256]u8 = undefined;
    var writer = Io.File.stdout().writerStreaming(io, &buffer);
    const out = &writer.interface;
    if (std.mem.eql(u8, what, "hello")) {
        try out.writeAll("hello from Zig\n");
    } else if (std.mem.eql(u8, what, "args")) {
        try out.print("{d} {s}\n", .{ args.len, args[args.len - 1] });
    } else if (std.mem.eql(u8, what, "env")) {
        try out.print("{s}\n", .{init.environ_map.get("NAME").?});
    } else if (std.mem.eql(u8, what, "exit")) {
        std.process.exit(try std.fmt.parseInt(u8, args[2], 10));
    } else if (std.mem.eql(u8, what, "stdin")) {
        try upper(io, out);
    } else if (std.mem.eql(u8, what, "sleep")) {
        try passes(io, out);
    } else if (std.mem.eql(u8, what, "random")) {
        try differs(io, out);
    } else {
        try files(io, init.preopens, out);
    }
    try out.flush();
}
