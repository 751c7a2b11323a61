package bootentry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// firmware is a directory in the place of the kernel's, with a variable of its own.
func firmware(t *testing.T, variables map[string][]byte) Variables {
	t.Helper()
	dir := t.TempDir()
	variables["BootOrder"+global] = []byte{7, 0, 0, 0, 1, 0}
	for name, b := range variables {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Variables(dir)
}

func TestStartOnceAndForget(t *testing.T) {
	v := firmware(t, map[string][]byte{})
	if asked, err := v.Asked(); asked || err != nil {
		t.Errorf("before: %t, %v", asked, err)
	}
	if err := v.StartOnce(File{Partition: 1, FirstLBA: 2048, Sectors: 100, Path: "EFI/BOOT/NEXTX64.EFI"}); err != nil {
		t.Fatal(err)
	}
	if asked, err := v.Asked(); !asked || err != nil {
		t.Errorf("asked: %t, %v", asked, err)
	}
	b, err := os.ReadFile(filepath.Join(string(v), next))
	if want := []byte{7, 0, 0, 0, 0xd0, 0x5e}; err != nil || !bytes.Equal(b, want) {
		t.Errorf("BootNext is %x, %v, want %x", b, err, want)
	}
	if order, err := os.ReadFile(filepath.Join(string(v), "BootOrder"+global)); err != nil || len(order) != 6 {
		t.Errorf("BootOrder is %x, %v", order, err)
	}
	for range 2 {
		if err := v.Forget(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(string(v)); err != nil || len(entries) != 1 {
		t.Errorf("%d variables are left, %v", len(entries), err)
	}
}

// What a file is started by, byte for byte, as `efibootmgr -c` writes one (the
// partition's GUID and all numbers little-endian).
func TestOption(t *testing.T) {
	got := File{Partition: 3, FirstLBA: 0x800, Sectors: 0x1000, GUID: [16]byte{1, 15: 2}, Path: "A/B.EFI"}.option(nil)
	want := []byte{1, 0, 0, 0, 42 + 4 + 2*9 + 4, 0}
	for _, c := range "Shed, the next release\x00" {
		want = append(want, byte(c), 0)
	}
	want = append(want, 4, 1, 42, 0, 3, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0)
	want = append(want, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2)
	want = append(want, 4, 4, 4+2*9, 0)
	for _, c := range "\\A\\B.EFI\x00" {
		want = append(want, byte(c), 0)
	}
	want = append(want, 0x7f, 0xff, 4, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestWhatTheFirmwareSays(t *testing.T) {
	for name, c := range map[string]struct {
		variables     map[string][]byte
		secure, fails bool
	}{
		"nothing":         {map[string][]byte{}, false, false},
		"secure":          {map[string][]byte{secure: {6, 0, 0, 0, 1}}, true, false},
		"not secure":      {map[string][]byte{secure: {6, 0, 0, 0, 0}}, false, false},
		"of other length": {map[string][]byte{secure: {6, 0, 0, 0}}, false, true},
	} {
		secure, err := firmware(t, c.variables).SecureBoot()
		if secure != c.secure || (err != nil) != c.fails {
			t.Errorf("%s: secure %t, %v", name, secure, err)
		}
	}
}

// Firmware without variables at run time, or a machine without UEFI.
func TestNoVariables(t *testing.T) {
	for _, v := range []Variables{Variables(t.TempDir()), Variables(filepath.Join(t.TempDir(), "none"))} {
		_, asked := v.Asked()
		_, secure := v.SecureBoot()
		for what, err := range map[string]error{
			"starting": v.StartOnce(File{}), "forgetting": v.Forget(), "asked": asked, "secure": secure,
		} {
			if !errors.Is(err, ErrNoVariables) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// The way to the disk is the firmware's own, where it says one.
func TestControllerOfThisBoot(t *testing.T) {
	pci := []byte{2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0, 1, 1, 6, 0, 0, 1}
	end := []byte{0x7f, 0xff, 4, 0}
	option := func(path ...[]byte) []byte {
		device := bytes.Join(path, nil)
		b := append([]byte{7, 0, 0, 0, 1, 0, 0, 0, byte(len(device)), 0}, text("UEFI Misc Device")...)
		// What follows the path is the option's own.
		return append(append(b, device...), 1, 2, 3, 4)
	}
	ours := []byte{6, 0, 0, 0, 1, 0}
	for name, c := range map[string]struct {
		variables map[string][]byte
		want      []byte
	}{
		"a disk":        {map[string][]byte{current: ours, "Boot0001" + global: option(pci, end)}, pci},
		"a file":        {map[string][]byte{current: ours, "Boot0001" + global: option(pci, []byte{4, 4, 6, 0, 0, 0}, end)}, pci},
		"a file alone":  {map[string][]byte{current: ours, "Boot0001" + global: option([]byte{4, 4, 6, 0, 0, 0}, end)}, nil},
		"no end":        {map[string][]byte{current: ours, "Boot0001" + global: option(pci)}, nil},
		"a node of 0":   {map[string][]byte{current: ours, "Boot0001" + global: option([]byte{1, 1, 0, 0}, end)}, nil},
		"a long node":   {map[string][]byte{current: ours, "Boot0001" + global: option([]byte{1, 1, 0xff, 0xff}, end)}, nil},
		"no name's end": {map[string][]byte{current: ours, "Boot0001" + global: {7, 0, 0, 0, 1, 0, 0, 0, 9, 0, 'a', 0, 'b'}}, nil},
		"short":         {map[string][]byte{current: ours, "Boot0001" + global: {7, 0, 0, 0, 1}}, nil},
		"no option":     {map[string][]byte{current: ours}, nil},
		"no current":    {map[string][]byte{"Boot0001" + global: option(pci, end)}, nil},
	} {
		if got := firmware(t, c.variables).controller(); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
	f := File{Path: "A"}
	if got := f.option(pci); !bytes.Contains(got, append(bytes.Clone(pci), 4, 1, 42, 0)) {
		t.Errorf("the option is %x", got)
	}
}

// What the variables hold is the host's to say.
func FuzzController(f *testing.F) {
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0x7f, 0xff, 4, 0})
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 1, 4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := firmware(t, map[string][]byte{current: {6, 0, 0, 0, 1, 0}, "Boot0001" + global: b}).controller()
		if len(got) > len(b) {
			t.Errorf("%d bytes of %d", len(got), len(b))
		}
	})
}
