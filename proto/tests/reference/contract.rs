//! The contract with its comments.

use std::{collections::HashMap, error::Error, path::Path};

use prost_reflect::{DescriptorPool, FileDescriptor, ServiceDescriptor};

/// In the order in which a newcomer reads them.
const SOURCES: [&str; 6] = [
    "archestra/chat/v1/chat.proto",
    "archestra/chat/v1/key_check.proto",
    "archestra/keyvault/v1/key_vault.proto",
    "archestra/keyvault/v1/usage.proto",
    "archestra/keyvault/v1/audit.proto",
    "archestra/types/v1/types.proto",
];

/// The files of the contract, and what is said of what is in them.
pub(crate) struct Contract {
    pub(crate) files: Vec<FileDescriptor>,
    /// By file, and by the path of a thing in its descriptor.
    comments: HashMap<(String, Vec<i32>), String>,
}

impl Contract {
    pub(crate) fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let set = protox::Compiler::new([folder])?
            .include_source_info(true)
            .include_imports(true)
            .open_files(SOURCES)?
            .file_descriptor_set();
        let pool = DescriptorPool::from_file_descriptor_set(set)?;
        let files: Vec<_> = SOURCES
            .iter()
            .map(|name| pool.get_file_by_name(name).ok_or("a file is missing"))
            .collect::<Result<_, _>>()?;
        let mut comments = HashMap::new();
        for file in &files {
            for location in file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location) {
                if let Some(comment) = &location.leading_comments {
                    comments.insert((file.name().to_owned(), location.path.clone()), comment.clone());
                }
            }
        }
        Ok(Self { files, comments })
    }

    /// What stands above a thing.
    pub(crate) fn comment(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.comments.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str)
    }

    /// What stands above `package`, in the file that says most.
    pub(crate) fn package_comment(&self, package: &str) -> &str {
        // The number of `package` in a file's descriptor.
        let of = |file: &FileDescriptor| self.comment(file, &[2]);
        let files = self.files.iter().filter(|file| file.package_name() == package);
        files.map(of).max_by_key(|comment| comment.len()).unwrap_or_default()
    }

    /// The packages, in the order of the files.
    pub(crate) fn packages(&self) -> Vec<&str> {
        let mut packages: Vec<_> = self.files.iter().map(FileDescriptor::package_name).collect();
        packages.dedup();
        packages
    }

    /// The services, in the order of the files.
    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceDescriptor> {
        self.files.iter().flat_map(|file| file.services().collect::<Vec<_>>())
    }
}
