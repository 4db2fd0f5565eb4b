// Package syscalls knows the names and numbers of Linux system calls on amd64 and arm64.
// Start with [Name] and [Number].
//
// It promises every call up to the kernel that golang.org/x/sys of go.mod knows, for both
// architectures whatever machine it runs on. It is not for 32-bit and x32 entries: their
// numbers mean other calls.
package syscalls

import "slices"

//go:generate go run generate.go

// Name returns the kernel's name of a system call; arch is a GOARCH. Empty: unknown.
func Name(arch string, number int) string {
	t := table(arch)
	if number < 0 || number >= len(t) {
		return ""
	}
	return t[number]
}

// Number returns the number of a system call.
func Number(arch, name string) (number int, ok bool) {
	if name == "" {
		return 0, false
	}
	number = slices.Index(table(arch), name) // below a microsecond; policies are compiled seldom
	return number, number >= 0
}

// Known reports whether one of the architectures has a system call of this name.
func Known(name string) bool {
	_, amd := Number("amd64", name)
	_, arm := Number("arm64", name)
	return amd || arm
}

// Max returns the highest known number of an architecture, -1 for an unknown one.
func Max(arch string) int { return len(table(arch)) - 1 }

// Names returns the names that an architecture has, in the order of their numbers.
func Names(arch string) []string {
	return slices.DeleteFunc(slices.Clone(table(arch)), func(name string) bool { return name == "" })
}

func table(arch string) []string {
	switch arch {
	case "amd64":
		return amd64[:]
	case "arm64":
		return arm64[:]
	}
	return nil
}
