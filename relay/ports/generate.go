package ports

// What comes out depends on the compiler: committed is that of Debian clang 14.0.6.
//
//go:generate go tool bpf2go -tags linux -cc clang -strip llvm-strip -cflags "-O2 -g -Wall -Werror" -target bpfel,bpfeb -go-package ports steer bpf/steer.c
