package import WorktreeEngine

/// `config.toml` of a state directory.
package enum ConfigurationFile {
    /// Reads the file; the defaults when there is none. Blocks.
    /// - Throws: ``SettingsError`` that names the file, the key, the reason and what is accepted.
    package static func load(state: String) throws(SettingsError) -> Configuration {
        let path = "\(state)/config.toml"
        var configuration = Configuration(state: state)
        guard let top = try SettingsFile.read(path) else { return configuration }
        var problems = Problems()
        if let table = top.table(EngineSettings.keys, &problems) {
            EngineSettings.apply(table, to: &configuration, &problems)
        }
        if let first = problems.all.first { throw SettingsError(path, first) }
        return configuration
    }
}
