package firmware

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
)

// extend is TPM2_PCR_Extend with one event's digests in both banks, as
// firmware sends it: authorized by an empty password.
func extend(register uint32, event []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x80, 0x02, 0, 0, 0, 0}, commandExtend)
	b = binary.BigEndian.AppendUint32(b, register)
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, 2)
	for _, bank := range []struct {
		alg  uint16
		hash crypto.Hash
	}{{0x000b, crypto.SHA256}, {0x000c, crypto.SHA384}} {
		h := bank.hash.New()
		h.Write(event)
		b = h.Sum(binary.BigEndian.AppendUint16(b, bank.alg))
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

var separator = []byte{0, 0, 0, 0}

// start is the commands of a firmware that measures one event into register 1
// and closes what is watched.
func start() [][]byte {
	getRandom := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 8}
	commands := [][]byte{getRandom, extend(1, []byte("tables")), extend(4, []byte("not watched"))}
	for _, register := range watched {
		commands = append(commands, extend(uint32(register), separator))
	}
	return commands
}

// logOf is swtpm's log of commands, 16 bytes a line, each with an answer.
func logOf(commands ...[]byte) string {
	var b strings.Builder
	dump := func(what string, data []byte) {
		fmt.Fprintf(&b, " %s: length %d\n", what, len(data))
		for len(data) > 0 {
			n := min(16, len(data))
			fmt.Fprintf(&b, " % X \n", data[:n])
			data = data[n:]
		}
	}
	dump("Ctrl Cmd", []byte{0, 0, 0, 0x10})
	for _, c := range commands {
		dump("SWTPM_IO_Read", c)
		dump("SWTPM_IO_Write", []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0})
	}
	return b.String()
}

func TestExtendsAreReplayed(t *testing.T) {
	r := newRecorder()
	// What comes after everything is closed is not read.
	if err := r.follow(strings.NewReader(logOf(append(start(), extend(1, []byte("later")))...))); err != nil {
		t.Fatal(err)
	}
	closed := attest.SeparatorRegister().String()
	tables := attest.Extend(attest.Extend(attest.Digest{}, attest.Sum([]byte("tables"))), attest.Sum(separator))
	for register, want := range map[string]string{"0": closed, "1": tables.String(), "7": closed} {
		if got := r.registers(crypto.SHA256)[register]; got != want {
			t.Errorf("register %s: got %s, want %s", register, got, want)
		}
	}
	if got := r.registers(crypto.SHA384); len(got) != len(watched) || len(got["1"]) != 96 || got["1"] == got["0"] {
		t.Errorf("sha384: %v", got)
	}
}

func TestStrangeStartsAreRefused(t *testing.T) {
	commands := start()
	command := func(code uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 10}, code)
	}
	unknown := bytes.Clone(commands[1])
	binary.BigEndian.PutUint16(unknown[31:], 0x27)
	cut := bytes.Clone(commands[1][:60])
	binary.BigEndian.PutUint32(cut[2:], 60)
	for name, log := range map[string]string{
		"nothing":             "",
		"not closed":          logOf(commands[:len(commands)-1]...),
		"an event":            logOf(command(commandEvent)),
		"a reset":             logOf(command(commandReset)),
		"an unknown bank":     logOf(unknown),
		"a digest cut off":    logOf(cut),
		"a false length":      logOf(commands[1][:20]),
		"a command cut off":   " SWTPM_IO_Read: length 12\n 80 01\n SWTPM_IO_Read: length 2\n",
		"a length too long":   " SWTPM_IO_Read: length 99999\n",
		"a length of letters": " SWTPM_IO_Read: length x\n",
		"no hex":              " SWTPM_IO_Read: length 12\n zz\n",
		"more than announced": " SWTPM_IO_Read: length 1\n 80 01\n",
	} {
		if err := newRecorder().follow(strings.NewReader(log)); !errors.Is(err, ErrMeasure) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range start() {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRecorder()
		if err := r.command(b); err != nil && !errors.Is(err, ErrMeasure) {
			t.Errorf("error %v of no known kind", err)
		}
		for _, value := range r.registers(crypto.SHA256) {
			if len(value) != hex.EncodedLen(sha256.Size) {
				t.Errorf("a register of %d digits", len(value))
			}
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add(logOf(start()...))
	f.Add("SWTPM_IO_Read: length 0\n")
	f.Fuzz(func(t *testing.T, log string) {
		if err := newRecorder().follow(strings.NewReader(log)); err != nil && !errors.Is(err, ErrMeasure) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}

// firmwarePackage is a package file with the files given.
func firmwarePackage(t *testing.T, names ...string) string {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("no dpkg-deb: it is in the package dpkg")
	}
	dir := t.TempDir()
	control := "Package: ovmf\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
	files := map[string]string{"DEBIAN/control": control}
	for _, name := range names {
		files[name] = "content of " + filepath.Base(name)
	}
	for name, text := range files {
		file := filepath.Join(dir, "tree", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "ovmf.deb")
	if text, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", filepath.Join(dir, "tree"), out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, text)
	}
	return out
}

func TestOpenWantsBothFiles(t *testing.T) {
	f, err := Open(t.Context(), firmwarePackage(t, codeFile, secureFile, variablesFile, "usr/share/doc/README"), board.Model{})
	if err != nil {
		t.Fatal(err)
	}
	if string(f.Code) != "content of OVMF_CODE_4M.fd" || string(f.Variables) != "content of OVMF_VARS_4M.fd" {
		t.Errorf("code %q, variables %q", f.Code, f.Variables)
	}
	secure, err := Open(t.Context(), firmwarePackage(t, codeFile, secureFile, variablesFile), board.Model{SecureBoot: true})
	if err != nil || string(secure.Code) != "content of OVMF_CODE_4M.secboot.fd" {
		t.Errorf("with Secure Boot: %+v, %v", secure, err)
	}
	if _, err := Open(t.Context(), firmwarePackage(t, codeFile, variablesFile), board.Model{SecureBoot: true}); !errors.Is(err, ErrPackage) {
		t.Errorf("without the firmware that has Secure Boot: %v", err)
	}
	for _, only := range []string{codeFile, variablesFile} {
		if _, err := Open(t.Context(), firmwarePackage(t, only), board.Model{}); !errors.Is(err, ErrPackage) {
			t.Errorf("only %s: got %v", only, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none.deb")
	if err := os.WriteFile(none, []byte("no package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), none, board.Model{}); !errors.Is(err, ErrPackage) {
		t.Errorf("no package: got %v", err)
	}
}

// fakeMachine puts programs on the path that count their starts, the TPM's
// with a log of a start on its descriptor 4.
func fakeMachine(t *testing.T, log string) (starts func() int) {
	t.Helper()
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	if err := os.WriteFile(filepath.Join(dir, "log"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"swtpm":              fmt.Sprintf("#!/bin/sh\nprintf x >>%s\ncat %s/log >&4\n", count, dir),
		"qemu-system-x86_64": "#!/bin/sh\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		b, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
}

// TestMeasuredOnce measures anew for another firmware, QEMU or shape alone.
func TestMeasuredOnce(t *testing.T) {
	starts := fakeMachine(t, logOf(start()...))
	cache := filepath.Join(t.TempDir(), "cache")
	f := &Firmware{Code: []byte("code"), Variables: []byte("variables")}
	other := &Firmware{Code: []byte("edoc"), Variables: f.Variables}
	variables := &Firmware{Code: f.Code, Variables: []byte("selbairav")}
	small, large := board.Shape{VCPUs: 1, MemoryBytes: 512 << 20}, board.Shape{VCPUs: 1, MemoryBytes: 1 << 30}
	qemu := attest.Digest{1}
	for i, c := range []struct {
		f     *Firmware
		shape board.Shape
		qemu  attest.Digest
		want  int
	}{{f, small, qemu, 1}, {f, small, qemu, 1}, {other, small, qemu, 2}, {f, large, qemu, 3}, {f, small, attest.Digest{2}, 4}, {f, large, qemu, 4}, {variables, small, qemu, 5}} {
		r, err := c.f.MeasureOnce(t.Context(), c.shape, c.qemu, cache)
		if err != nil {
			t.Fatal(err)
		}
		if got := starts(); got != c.want || !r.complete() {
			t.Errorf("%d: %d starts, want %d; %v", i, got, c.want, r)
		}
	}
	// What is kept by halves is measured again.
	kept, err := filepath.Glob(filepath.Join(cache, "*.json"))
	if err != nil || len(kept) != 5 {
		t.Fatalf("kept are %v, error %v", kept, err)
	}
	for _, name := range kept {
		if err := os.WriteFile(name, []byte(`{"SHA256":{}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := f.MeasureOnce(t.Context(), small, qemu, cache); err != nil || starts() != 6 || !r.complete() {
		t.Errorf("%d starts, %v, error %v", starts(), r, err)
	}
}

func TestStartWithoutEndIsRefused(t *testing.T) {
	commands := start()
	fakeMachine(t, logOf(commands[:len(commands)-1]...))
	if _, err := (&Firmware{}).Measure(t.Context(), board.Shape{VCPUs: 1, MemoryBytes: 1 << 30}); !errors.Is(err, ErrMeasure) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Firmware{}).Measure(ctx, board.Shape{VCPUs: 1, MemoryBytes: 1 << 30}); err == nil {
		t.Error("a start that was called off was measured")
	}
}
