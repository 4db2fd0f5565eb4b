package main

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"bulkhead/test/registry"
)

type registryKey struct{}

// registryCommand starts a registry in this process and pushes images into it: registry start; registry push NAME, which
// sets DIGEST; registry stop.
func registryCommand(ts *testscript.TestScript, _ bool, args []string) {
	held := ts.Value(registryKey{}).(*[]*registry.Registry)
	switch args[0] {
	case "start":
		r := registry.Start(true)
		*held = []*registry.Registry{r}
		ts.Defer(r.Close)
		ts.Setenv("REGISTRY", r.Host)
		ts.Setenv("DOCKER_CONFIG", ts.MkAbs("docker"))
	case "push":
		digest, err := (*held)[0].Push(args[1])
		ts.Check(err)
		ts.Setenv("DIGEST", digest)
	case "stop":
		(*held)[0].Close()
	}
}

// fillCommand puts variables into files: fill FILE…
func fillCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args {
		text := strings.NewReplacer("$REGISTRY", ts.Getenv("REGISTRY"), "$DIGEST", ts.Getenv("DIGEST")).Replace(ts.ReadFile(file))
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
	}
}
