package secureboot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// The size of the volume and of the store in it, much smaller than OVMF's.
const testVolume, testHeader, testStore = 16 << 10, 72, 12 << 10

// emptyStore is a store without variables.
func emptyStore() []byte {
	b := bytes.Repeat([]byte{erased}, testVolume)
	clear(b[:testHeader+storeHead])
	copy(b[16:], volumeVariables[:])
	binary.LittleEndian.PutUint64(b[volumeLength:], testVolume)
	copy(b[volumeSignature:], "_FVH")
	binary.LittleEndian.PutUint16(b[volumeHeaderSize:], testHeader)
	store := b[testHeader:]
	copy(store, storeAuthenticated[:])
	binary.LittleEndian.PutUint32(store[storeSize:], testStore)
	store[storeFormat], store[storeFormat+1] = formatted, healthy
	return b
}

func TestEnrollingLeavesTheRest(t *testing.T) {
	keys, err := Read(keysDir(t))
	if err != nil {
		t.Fatal(err)
	}
	keys.DBX = digestList([][32]byte{{7}})
	empty := emptyStore()
	enrolled, err := keys.Enroll(empty)
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.Enroll(empty)
	if err != nil || !bytes.Equal(enrolled, again) {
		t.Errorf("the same keys give another store, %v", err)
	}
	begin := testHeader + storeHead
	if !bytes.Equal(enrolled[:begin], empty[:begin]) || !bytes.Equal(enrolled[begin+testStore-storeHead:], empty[begin+testStore-storeHead:]) {
		t.Error("more than the variables has changed")
	}
	for _, list := range [][]byte{keys.PK, keys.KEK, keys.DB, keys.DBX} {
		if bytes.Count(enrolled, list) != 1 {
			t.Error("a list does not stand in the store once")
		}
	}
	if _, err := keys.Enroll(enrolled); !errors.Is(err, ErrStore) {
		t.Errorf("a second time: %v", err)
	}
}

// What is written is what EDK II's AUTHENTICATED_VARIABLE_HEADER says, one after
// another from four-byte bounds on; there is room for it to the last byte.
func TestVariablesAreLaidOut(t *testing.T) {
	keys := &Keys{PK: sized(41), KEK: sized(42), DB: sized(43), DBX: digestList([][32]byte{{7}})}
	enrolled, err := keys.Enroll(emptyStore())
	if err != nil {
		t.Fatal(err)
	}
	begin, at := testHeader+storeHead, testHeader+storeHead
	for _, want := range []variable{
		{GlobalVariable, "PK", 0x27, keys.PK}, {GlobalVariable, "KEK", 0x27, keys.KEK}, {ImageSecurity, "db", 0x27, keys.DB},
		{ImageSecurity, "dbx", 0x27, keys.DBX}, {secureBootEnable, "SecureBootEnable", 0x03, []byte{1}},
	} {
		at = begin + (at-begin+3)/4*4
		b := enrolled[at:]
		var wide []byte
		for _, c := range []byte(want.name + "\x00") {
			wide = append(wide, c, 0)
		}
		year := []byte{0xd0, 7, 1, 1}
		if want.attributes&authenticated == 0 {
			year = make([]byte, 4)
		}
		if binary.LittleEndian.Uint16(b) != variableID || b[2] != variableAdded || binary.LittleEndian.Uint32(b[4:]) != want.attributes ||
			!bytes.Equal(b[16:20], year) || int(binary.LittleEndian.Uint32(b[36:])) != len(wide) || int(binary.LittleEndian.Uint32(b[40:])) != len(want.data) {
			t.Fatalf("%s at %d: % x", want.name, at, b[:variableHead])
		}
		if !bytes.Equal(b[44:60], want.namespace[:]) || !bytes.HasPrefix(b[variableHead:], append(wide, want.data...)) {
			t.Errorf("%s: % x", want.name, b[44:variableHead+len(wide)])
		}
		at += variableHead + len(wide) + len(want.data)
	}
	for short, want := range map[int]error{0: nil, 1: ErrStore} {
		store := emptyStore()
		binary.LittleEndian.PutUint32(store[testHeader+storeSize:], uint32(at-testHeader-short))
		if _, err := keys.Enroll(store); !errors.Is(err, want) {
			t.Errorf("%d bytes too few: %v", short, err)
		}
	}
}

func TestOtherStoresAreRefused(t *testing.T) {
	keys, err := Read(keysDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"nothing":             func([]byte) []byte { return nil },
		"another volume":      func(b []byte) []byte { b[16]++; return b },
		"no signature":        func(b []byte) []byte { b[volumeSignature]++; return b },
		"longer than it is":   func(b []byte) []byte { return b[:len(b)-1] },
		"header outside":      func(b []byte) []byte { b[volumeHeaderSize+1] = 0xff; return b },
		"header within":       func(b []byte) []byte { b[volumeHeaderSize] = 8; return b },
		"not authenticated":   func(b []byte) []byte { b[testHeader]++; return b },
		"larger than volume":  func(b []byte) []byte { b[testHeader+storeSize+2] = 1; return b },
		"smaller than header": func(b []byte) []byte { binary.LittleEndian.PutUint32(b[testHeader+storeSize:], 8); return b },
		"no room":             func(b []byte) []byte { binary.LittleEndian.PutUint32(b[testHeader+storeSize:], 1000); return b },
		"not formatted":       func(b []byte) []byte { b[testHeader+storeFormat] = 0xff; return b },
		"not healthy":         func(b []byte) []byte { b[testHeader+storeFormat+1] = 0xff; return b },
		"a variable":          func(b []byte) []byte { b[testHeader+storeHead+100] = 0; return b },
	} {
		if _, err := keys.Enroll(change(emptyStore())); !errors.Is(err, ErrStore) {
			t.Errorf("%s: %v", name, err)
		}
	}
	keys.PK = nil
	if _, err := keys.Enroll(emptyStore()); !errors.Is(err, ErrKeys) {
		t.Errorf("without PK: %v", err)
	}
}

func FuzzFreeSpace(f *testing.F) {
	f.Add(emptyStore()[:testHeader+storeHead+64])
	f.Add(emptyStore())
	f.Fuzz(func(t *testing.T, b []byte) {
		begin, end, err := freeSpace(b)
		switch {
		case err != nil && !errors.Is(err, ErrStore):
			t.Errorf("error %v of no known kind", err)
		case err == nil && (begin < 0 || begin > end || end > len(b)):
			t.Errorf("%d to %d of %d bytes", begin, end, len(b))
		}
	})
}

// virt-fw-vars of Gerd Hoffmann's virt-firmware, which is not ours, reads in
// Debian's store what it would itself have written there.
func TestVirtFirmwareReadsTheStore(t *testing.T) {
	program := os.Getenv("SHED_VIRT_FW_VARS")
	if program == "" {
		t.Skip("no virt-fw-vars: make test sets SHED_VIRT_FW_VARS")
	}
	const debian = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	empty, err := os.ReadFile(debian)
	if err != nil {
		t.Fatal(err)
	}
	dir := keysDir(t)
	if err := Revoke(dir, testProgram(1)); err != nil {
		t.Fatal(err)
	}
	keys, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	enrolled, err := keys.Enroll(empty)
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "ours.fd")
	if err := os.WriteFile(ours, enrolled, 0o600); err != nil {
		t.Fatal(err)
	}
	const itself = "9e3a1f5d-6b0c-4d4b-8f2e-71c305d4aa16"
	revoked := hashOf(t, testProgram(1))
	in := func(name string) string { return filepath.Join(dir, name) }
	theirs := filepath.Join(t.TempDir(), "theirs.fd")
	dump(t, program, "-i", debian, "--set-pk", itself, in("PK.crt"), "--add-kek", itself, in("KEK.crt"),
		"--add-db", itself, in("db.crt"), "--add-dbx-hash", itself, hex.EncodeToString(revoked[:]), "--sb", "-o", theirs)
	got, want := variables(t, program, ours), variables(t, program, theirs)
	if len(got) != 5 || len(want) != len(got) {
		t.Fatalf("it reads %d variables, and would have written %d, want 5", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("it reads %+v, and would have written %+v", got[i], want[i])
		}
	}
}

// readVariable is one as virt-fw-vars shows it.
type readVariable struct {
	Name, GUID, Data string
	Attr             int
}

// variables are those that Secure Boot is made of, by name.
func variables(t *testing.T, program, store string) []readVariable {
	t.Helper()
	var read struct{ Variables []readVariable }
	out := filepath.Join(t.TempDir(), "variables.json")
	dump(t, program, "-i", store, "--output-json", out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &read); err != nil {
		t.Fatal(err)
	}
	read.Variables = slices.DeleteFunc(read.Variables, func(v readVariable) bool {
		return !slices.Contains([]string{"PK", "KEK", "db", "dbx", "SecureBootEnable"}, v.Name)
	})
	slices.SortFunc(read.Variables, func(a, b readVariable) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return read.Variables
}

func dump(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("virt-fw-vars: %v\n%s", err, out)
	}
}
