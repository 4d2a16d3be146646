//! Compiles the BPF programs and makes their skeletons. `CLANG` in the environment names the compiler, `clang` by default.

fn main() {
    println!("cargo:rerun-if-changed=src/source/bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    #[cfg(feature = "bpf")]
    compile();
}

#[cfg(feature = "bpf")]
fn compile() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = std::path::Path::new("src/source/bpf");
    let clang = std::env::var_os("CLANG").unwrap_or("clang".into());
    for name in ["tasks", "mappings", "files", "iterator"] {
        let built = libbpf_cargo::SkeletonBuilder::new()
            .clang(&clang)
            .source(root.join(name).join(format!("{name}.bpf.c")))
            .clang_args([
                "-Isrc/source/bpf",
                "-mcpu=v3",
                "-Wall",
                "-Wno-unused-function",
                "-Wno-missing-declarations",
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")));
        if let Err(e) = built {
            panic!(
                "cannot compile {name}.bpf.c with {}: {e:#}\n\
                 The BPF source needs clang (14 or newer; CLANG names another one), libelf-dev and zlib1g-dev (`make deps` \
                 installs them); without them build with --no-default-features.",
                clang.display()
            );
        }
    }
}
