package bpf

// One object for every kernel and both processors: CO-RE finds the offsets when it is loaded.
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -go-package bpf programs c/bulkhead.bpf.c -- -Ic -I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wno-compare-distinct-pointer-types -Wno-missing-declarations

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -go-package bpf steering c/steer.bpf.c -- -Ic -I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wno-missing-declarations

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -go-package bpf serving c/serve.bpf.c -- -Ic -I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wno-missing-declarations

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -go-package bpf tls c/tls.bpf.c -- -Ic -I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Wno-missing-declarations
