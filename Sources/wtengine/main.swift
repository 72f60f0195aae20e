import WorktreeEngine
let a = CommandLine.arguments
let engine = try await Engine.open(Configuration(state: a[1]))
let w = try await engine.spawn(SpawnRequest(issue: a[2], run: a[3], repository: a[4]))
print(w.path)
