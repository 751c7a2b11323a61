package qemu

import (
	"os"
	"os/exec"
	"strings"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
)

// tools are the programs and files of Debian's that machines are made with.
type tools struct {
	qemu, qemuImg, swtpm, swtpmSetup, swtpmLocalCA string
	firmware, variables                            string
	// qemuARM64 is empty where the host has none: then it runs no such machine.
	qemuARM64 string
}

// qemuFor is QEMU's program for a board.
func (t tools) qemuFor(m board.Model) string {
	if m.IsARM64() {
		return t.qemuARM64
	}
	return t.qemu
}

const (
	firmwarePath  = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	variablesPath = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// findTools looks for all of them and names the packages of those it lacks.
func findTools() (tools, error) {
	var t tools
	var missing, packages []string
	lack := func(tool, pkg string) {
		missing = append(missing, tool)
		packages = append(packages, pkg)
	}
	for _, program := range []struct {
		name, pkg string
		path      *string
	}{
		{"qemu-system-x86_64", "qemu-system-x86", &t.qemu},
		{"qemu-img", "qemu-utils", &t.qemuImg},
		{"swtpm", "swtpm", &t.swtpm},
		{"swtpm_setup", "swtpm-tools", &t.swtpmSetup},
		{"swtpm_localca", "swtpm-tools", &t.swtpmLocalCA},
	} {
		path, err := exec.LookPath(program.name)
		if err != nil {
			lack(program.name, program.pkg)
			continue
		}
		*program.path = path
	}
	if path, err := exec.LookPath(programARM64); err == nil {
		t.qemuARM64 = path
	}
	t.firmware, t.variables = firmwarePath, variablesPath
	for _, file := range []string{firmwarePath, variablesPath} {
		if _, err := os.Stat(file); err != nil {
			lack(file, "ovmf")
		}
	}
	if len(missing) > 0 {
		return tools{}, providers.Errorf(providers.CodeInvalid, "%s is missing: apt-get install %s",
			strings.Join(missing, ", "), strings.Join(unique(packages), " "))
	}
	return t, nil
}

// unique drops what was named before, keeping the order.
func unique(names []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}
