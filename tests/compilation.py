"""How the compiler works where a program runs once: fast, without much optimisation."""

# Without LLVM's passes and the emitters of fusions a program compiles in a fifth of the
# time.
QUICK = (
    "--xla_backend_optimization_level=0"
    " --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1"
)
