//! Our own environment, and the short list of names that are read from it. Nobody else reads variables.
//!
//! What is not on the list never reaches the function, unless `-e NAME` asks for it by name.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use rootfs_cache::source::Proxies;

/// A snapshot of the environment the process was started with.
#[derive(Debug, Clone, Default)]
pub struct OwnEnvironment(Vec<(OsString, OsString)>);

/// The switches of docker-lambda and the function settings of Lambda: the two families that are read from our own environment.
const SETTING_FAMILIES: [&str; 2] = ["DOCKER_LAMBDA_", "AWS_LAMBDA_FUNCTION_"];

/// The variable that says what the images of the cache may take.
pub(super) const CACHE_MAX_SIZE: &str = "UNDOCKED_CACHE_MAX_SIZE";

impl OwnEnvironment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`, empty or not.
    pub fn get(&self, name: &OsStr) -> Option<&OsStr> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_os_str())
    }

    /// The switches and settings that are set here and not empty.
    pub fn settings(&self) -> Vec<(String, OsString)> {
        let named = self.0.iter().filter_map(|(name, value)| Some((name.to_str()?, value)));
        named
            .filter(|(name, value)| !value.is_empty() && SETTING_FAMILIES.iter().any(|family| name.starts_with(family)))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }

    /// The cache: `UNDOCKED_CACHE`, else `undocked` in the user's cache folder.
    pub fn cache(&self) -> Option<PathBuf> {
        self.path("UNDOCKED_CACHE").or_else(|| Some(self.user_folder("XDG_CACHE_HOME", ".cache")?.join("undocked")))
    }

    /// What the images of the cache may take, as written.
    pub fn cache_max(&self) -> Option<String> {
        self.not_empty(CACHE_MAX_SIZE).map(|text| text.to_string_lossy().into_owned())
    }

    /// Where queued events are kept: in the user's folder of states, else in the cache.
    pub fn events(&self) -> Option<PathBuf> {
        let in_state = self.user_folder("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("undocked/events"));
        in_state.or_else(|| Some(self.cache()?.join("events")))
    }

    /// Run records: `undocked` in the user's folder of what runs, else a folder of this user's alone.
    pub fn records(&self) -> Option<PathBuf> {
        let in_runtime = self.path("XDG_RUNTIME_DIR").filter(|path| path.is_absolute()).map(|path| path.join("undocked"));
        let user = nix::unistd::geteuid();
        let own = if user.is_root() { PathBuf::from("/run/undocked") } else { PathBuf::from(format!("/tmp/undocked-{user}")) };
        Some(in_runtime.unwrap_or(own))
    }

    /// The user's own lock file. It need not exist.
    pub fn user_lock(&self) -> Option<PathBuf> {
        Some(self.user_folder("XDG_CONFIG_HOME", ".config")?.join("undocked/vendor-images.lock"))
    }

    /// The server that keeps what is signed, if docker is told of another than the usual one.
    pub fn trust_server(&self) -> Option<String> {
        self.not_empty("DOCKER_CONTENT_TRUST_SERVER").map(|server| server.to_string_lossy().into_owned())
    }

    /// Where it is remembered what was seen of signatures: in the user's folder of states, else in the cache.
    pub fn trust_memory(&self) -> Option<PathBuf> {
        let in_state = self.user_folder("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("undocked/trust"));
        in_state.or_else(|| Some(self.cache()?.join("trust")))
    }

    /// The folder that holds a folder of certificates for a trust server. It need not exist.
    pub fn trust_certificates(&self) -> Option<PathBuf> {
        Some(self.docker_config()?.with_file_name("tls"))
    }

    /// The file that a login is written to. It need not exist.
    pub fn login_file(&self) -> Option<PathBuf> {
        self.path("REGISTRY_AUTH_FILE").or_else(|| self.docker_config())
    }

    /// The files that logins are looked for in, in that order, as podman and skopeo have it. They need not exist.
    pub fn login_files(&self) -> Vec<PathBuf> {
        let run = self.path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
        let user = self.containers_folder().map(|folder| folder.join("auth.json"));
        [self.path("REGISTRY_AUTH_FILE"), run, user, self.docker_config()].into_iter().flatten().collect()
    }

    fn docker_config(&self) -> Option<PathBuf> {
        let folder = self.path("DOCKER_CONFIG").or_else(|| Some(self.path("HOME")?.join(".docker")))?;
        Some(folder.join("config.json"))
    }

    /// The files and folders that say where registries are; later ones win. They need not exist.
    pub fn registries_files(&self) -> Vec<PathBuf> {
        let system = PathBuf::from("/etc/containers");
        let user = self.containers_folder();
        // The user's file takes the place of the system's, while the folders beside them add up.
        let own = user.as_ref().map(|folder| folder.join("registries.conf")).filter(|file| file.exists());
        let main = self.path("CONTAINERS_REGISTRIES_CONF").or(own).unwrap_or_else(|| system.join("registries.conf"));
        let folders = [Some(system), user].into_iter().flatten().map(|folder| folder.join("registries.conf.d"));
        [main].into_iter().chain(folders).collect()
    }

    /// The folders that hold a folder of certificates for a registry. They need not exist.
    pub fn certificate_folders(&self) -> Vec<PathBuf> {
        let system = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from);
        let user = self.containers_folder().map(|folder| folder.join("certs.d"));
        system.into_iter().chain(user).collect()
    }

    /// The proxies that connections go through. Lower case comes first, as everywhere.
    pub fn proxies(&self) -> Proxies {
        let any = |names: &[&str]| names.iter().find_map(|name| self.not_empty(name)).map(|value| value.to_string_lossy().into_owned());
        Proxies {
            http: any(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            https: any(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            direct: any(&["no_proxy", "NO_PROXY"]),
        }
    }

    fn containers_folder(&self) -> Option<PathBuf> {
        Some(self.user_folder("XDG_CONFIG_HOME", ".config")?.join("containers"))
    }

    /// The variables that are set here of those by which CI services and clusters tell of themselves.
    pub fn services(&self) -> Vec<&'static str> {
        let known = ["GITHUB_ACTIONS", "CODESPACES", "GITLAB_CI", "KUBERNETES_SERVICE_HOST"];
        known.into_iter().filter(|name| self.not_empty(name).is_some()).collect()
    }

    /// Whether colour is unwanted (<https://no-color.org>).
    pub fn no_color(&self) -> bool {
        self.not_empty("NO_COLOR").is_some()
    }

    /// Where programs of this machine are looked for.
    pub fn search_path(&self) -> OsString {
        self.not_empty("PATH").map_or_else(|| "/usr/local/bin:/usr/bin:/bin".into(), OsStr::to_owned)
    }

    /// The XDG rule: the variable when it holds an absolute path, else the folder below the home folder.
    fn user_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        self.path(variable).filter(|path| path.is_absolute()).or_else(|| Some(self.path("HOME")?.join(below_home)))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.not_empty(name).map(PathBuf::from)
    }

    fn not_empty(&self, name: &str) -> Option<&OsStr> {
        self.get(OsStr::new(name)).filter(|value| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for OwnEnvironment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_families_are_settings() {
        let own = OwnEnvironment::from([
            ("AWS_LAMBDA_FUNCTION_NAME", "fn"),
            ("AWS_LAMBDA_FUNCTION_TIMEOUT", ""),
            ("DOCKER_LAMBDA_USE_STDIN", "1"),
            ("AWS_LAMBDA_EVENT_BODY", "{}"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu-west-1"),
            ("_HANDLER", "x"),
        ]);
        let names: Vec<_> = own.settings().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["AWS_LAMBDA_FUNCTION_NAME", "DOCKER_LAMBDA_USE_STDIN"]);
    }

    #[test]
    fn folders() {
        let cache = |own: OwnEnvironment| own.cache().map(|path| path.display().to_string());
        assert_eq!(cache([("UNDOCKED_CACHE", "/c"), ("HOME", "/h")].into()).as_deref(), Some("/c"));
        assert_eq!(cache([("XDG_CACHE_HOME", "/x"), ("HOME", "/h")].into()).as_deref(), Some("/x/undocked"));
        assert_eq!(cache([("XDG_CACHE_HOME", "relative"), ("HOME", "/h")].into()).as_deref(), Some("/h/.cache/undocked"));
        assert_eq!(cache([("UNDOCKED_CACHE", "")].into()), None);
        let events = |own: OwnEnvironment| own.events().map(|path| path.display().to_string());
        assert_eq!(events([("UNDOCKED_CACHE", "/c"), ("HOME", "/h")].into()).as_deref(), Some("/h/.local/state/undocked/events"));
        assert_eq!(events([("XDG_STATE_HOME", "/x"), ("HOME", "/h")].into()).as_deref(), Some("/x/undocked/events"));
        assert_eq!(events([("UNDOCKED_CACHE", "/c")].into()).as_deref(), Some("/c/events"));
        assert_eq!(events([("UNDOCKED_CACHE", "")].into()), None);
        let own = OwnEnvironment::from([("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(own.user_lock(), Some("/x/undocked/vendor-images.lock".into()));
    }

    #[test]
    fn where_logins_and_registries_are_described() {
        let shown = |paths: Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let own = OwnEnvironment::from([("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]);
        assert_eq!(shown(own.login_files()), ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]);
        assert_eq!(own.login_file(), Some("/h/.docker/config.json".into()));
        assert_eq!(
            shown(own.registries_files()),
            ["/etc/containers/registries.conf", "/etc/containers/registries.conf.d", "/h/.config/containers/registries.conf.d"]
        );
        let own = OwnEnvironment::from([
            ("HOME", "/h"),
            ("REGISTRY_AUTH_FILE", "/a.json"),
            ("DOCKER_CONFIG", "/d"),
            ("XDG_CONFIG_HOME", "/x"),
            ("CONTAINERS_REGISTRIES_CONF", "/r.conf"),
        ]);
        assert_eq!(shown(own.login_files()), ["/a.json", "/x/containers/auth.json", "/d/config.json"]);
        assert_eq!(own.login_file(), Some("/a.json".into()));
        assert_eq!(shown(own.registries_files())[0], "/r.conf");
        assert_eq!(shown(own.certificate_folders()).last().unwrap(), "/x/containers/certs.d");
        assert!(OwnEnvironment::default().login_files().is_empty());
    }

    #[test]
    fn proxies() {
        let own = OwnEnvironment::from([("HTTP_PROXY", "a:1"), ("https_proxy", "b:1"), ("HTTPS_PROXY", "c:1"), ("no_proxy", ".x")]);
        let proxies = own.proxies();
        assert_eq!((proxies.http.as_deref(), proxies.https.as_deref(), proxies.direct.as_deref()), (Some("a:1"), Some("b:1"), Some(".x")));
        assert_eq!(OwnEnvironment::from([("ALL_PROXY", "a:1"), ("HTTPS_PROXY", "")]).proxies().https.as_deref(), Some("a:1"));
    }
}
