package repository

import (
	"os/exec"
	"strings"
	"testing"
)

// maxClientModules caps what an owner's client is made of, our own included.
const maxClientModules = 40

// clientPlatforms are where owners are.
var clientPlatforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// forPlatform is a go command for another platform.
func forPlatform(t *testing.T, platform string, args ...string) *exec.Cmd {
	t.Helper()
	system, architecture, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", args...)
	cmd.Dir = root(t)
	cmd.Env = append(cmd.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0")
	return cmd
}

// The client is made of few modules, on every platform.
func TestClientIsSmall(t *testing.T) {
	for _, platform := range clientPlatforms {
		out, err := forPlatform(t, platform, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/shed").Output()
		if err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
		modules := map[string]bool{}
		for path := range strings.FieldsSeq(string(out)) {
			modules[path] = true
		}
		if len(modules) == 0 || len(modules) > maxClientModules {
			t.Errorf("%s: %d modules, want 1 to %d: %v", platform, len(modules), maxClientModules, modules)
		}
	}
}

// The client builds wherever owners are.
func TestClientBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the client for six platforms")
	}
	for _, platform := range clientPlatforms {
		if out, err := forPlatform(t, platform, "build", "-buildvcs=false", "-o", t.TempDir()+"/", "./cmd/shed").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", platform, err, out)
		}
	}
}
