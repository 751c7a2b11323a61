package swtpmtest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// manufactured is a TPM as it leaves its maker.
type manufactured struct {
	files map[string][]byte
	root  *x509.Certificate
}

var (
	// makers guards stock and used.
	makers sync.Mutex
	// stock are the TPMs that this process has made of each kind.
	stock = map[kind][]manufactured{}
	// used is how many of them a test has.
	used = map[testing.TB]map[kind]int{}
)

// kind is what a maker leaves in a TPM.
type kind bool

const (
	certified   kind = true
	uncertified kind = false
)

// next is a TPM that the test does not have yet.
func next(t testing.TB, k kind) manufactured {
	t.Helper()
	makers.Lock()
	defer makers.Unlock()
	if used[t] == nil {
		used[t] = map[kind]int{}
		t.Cleanup(func() {
			makers.Lock()
			defer makers.Unlock()
			delete(used, t)
		})
	}
	n := used[t][k]
	used[t][k]++
	if n == len(stock[k]) {
		stock[k] = append(stock[k], manufacture(t, k))
	}
	return stock[k][n]
}

func manufacture(t testing.TB, k kind) manufactured {
	t.Helper()
	dir := t.TempDir()
	write := func(name, format string, args ...any) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	options := write("options", "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n")
	ca := write("ca.conf", "statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", dir)
	config := write("setup.conf", "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", ca, options)
	state := filepath.Join(dir, "made")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"--tpm2", "--tpmstate", state, "--config", config, "--pcr-banks", "sha256,sha384", "--lock-nvram"}
	if k == certified {
		args = append(args, "--create-ek-cert")
	}
	if out, err := exec.Command("swtpm_setup", args...).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup (Debian package swtpm-tools): %v\n%s", err, out)
	}
	made := manufactured{files: readAll(t, state)}
	if k == certified {
		made.root = readRoot(t, filepath.Join(dir, "issuer.pem"))
	}
	return made
}

func readAll(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func readRoot(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
