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
    // For kernels that lack functions which the programs call, they are made without (kernel.h).
    let objects = [("direct", "-UPROBE_READS"), ("probe", "-DPROBE_READS")].into_iter();
    for ((reads, define), name) in
        objects.flat_map(|of| ["tasks", "mappings", "files"].map(|name| (of, name)))
    {
        std::fs::create_dir_all(out.join(reads)).expect("the directory that cargo gave can be written to");
        let built = libbpf_cargo::SkeletonBuilder::new()
            .clang(&clang)
            .source(root.join(name).join(format!("{name}.bpf.c")))
            .clang_args([
                define,
                "-Isrc/source/bpf",
                "-mcpu=v3",
                "-Wall",
                "-Wno-unused-function",
                "-Wno-missing-declarations",
            ])
            .build_and_generate(out.join(reads).join(format!("{name}.skel.rs")));
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
