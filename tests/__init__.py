"""The tests, as a package of their own name: a dependency of the benchmarks brings another one."""
