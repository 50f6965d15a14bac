//! A page for clients of one language, and its program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where a page, its program and what that needs are.
pub(crate) struct Language {
    pub(crate) page: &'static str,
    pub(crate) program: &'static str,
    /// What runs the program, in the folder of the program.
    pub(crate) command: &'static [&'static str],
    /// What stands between two blocks in the program, beside the end of a line.
    between: &'static str,
    fence: &'static str,
}

pub(crate) const PYTHON: Language = Language {
    page: "docs/clients/python.md",
    program: "examples/python/client.py",
    command: &["python3", "client.py"],
    between: "\n\n",
    fence: "python",
};

pub(crate) const TYPESCRIPT: Language = Language {
    page: "docs/clients/typescript.md",
    program: "examples/typescript/client.ts",
    command: &["node", "build/client.js"],
    between: "\n",
    fence: "ts",
};

pub(crate) const GO: Language =
    Language { page: "docs/clients/go.md", program: "examples/go/main.go", command: &[], between: "\n", fence: "go" };

impl Language {
    /// All blocks of the page in the language, one after another.
    pub(crate) fn blocks(&self) -> String {
        let page = self.text();
        let mark = format!("\n```{}\n", self.fence);
        let blocks: Vec<_> =
            page.split(&mark).skip(1).map(|rest| rest.split("```\n").next().expect("its end")).collect();
        assert!(blocks.len() > 3, "{} has blocks", self.page);
        blocks.join(self.between)
    }

    /// The commands that build the program and run it for the first time.
    pub(crate) fn commands(&self) -> String {
        let page = self.text();
        let (_, rest) = page.split_once("<!-- runs -->\n```sh\n").expect("commands");
        rest.split("```\n").next().expect("their end").to_owned()
    }

    /// What is needed to run the program and is not there.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match self.fence {
            "python" => {
                let found = succeeds("python3", &["-c", "import grpc, grpc_status, grpc_tools"]);
                (!found).then_some("Python's grpcio, grpcio-status or grpcio-tools")
            }
            "ts" => node_modules().is_none().then_some("TypeScript, or another package of examples/typescript"),
            _ => Some("a toolchain"),
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(root().join(self.page)).unwrap_or_else(|error| panic!("{}: {error}", self.page))
    }
}

/// The folder with the packages that examples/typescript names, in the versions that it names.
pub(crate) fn node_modules() -> Option<PathBuf> {
    let read = |path: PathBuf| -> Option<serde_json::Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let wanted = read(root().join("examples/typescript/package.json")).expect("a package.json");
    let folders = env::var_os("NODE_PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let has_all = |folder: &PathBuf| {
        ["dependencies", "devDependencies"].iter().flat_map(|kind| wanted[kind].as_object().expect("packages")).all(
            |(name, version)| {
                read(folder.join(name).join("package.json")).is_some_and(|found| found["version"] == *version)
            },
        )
    };
    folders.into_iter().find(has_all).filter(|_| succeeds("node", &["--version"]))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
