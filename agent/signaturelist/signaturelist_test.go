package signaturelist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// authenticated is a write of contents behind a proof.
func authenticated(proof, contents []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, timeBytes), uint32(certificateBytes+len(proof)))
	b = binary.LittleEndian.AppendUint16(b, certificateRevision)
	b = binary.LittleEndian.AppendUint16(b, certificateGUID)
	return append(append(append(b, pkcs7GUID[:]...), proof...), contents...)
}

// The firmware gets the attributes and the write, in one; a list that is there is
// guarded by the kernel before.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	v, write := Variables(dir), authenticated([]byte("proof"), []byte("list"))
	for _, name := range []string{release.VariableDB, release.VariableDBX} {
		file := filepath.Join(dir, name+"-d719b2cb-3d3a-4596-a3bc-dad00e67656f")
		if name == release.VariableDB {
			guarded(t, file)
		}
		if err := v.Write(name, write); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, append([]byte{0x27, 0, 0, 0}, write...)) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if err := v.Write("KEK", write); !errors.Is(err, ErrVariable) {
		t.Errorf("KEK: %v", err)
	}
	if err := Variables(filepath.Join(dir, "none")).Write(release.VariableDB, write); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without variables: %v", err)
	}
}

// guarded makes a file that only Write's way leads into, where the file system under
// the tests has such files and they are root's.
func guarded(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		t.Logf("the file is not guarded here: %v", err)
		return
	}
	t.Cleanup(func() { unguard(file) }) //nolint:errcheck // Write has done it
	if err := os.WriteFile(file, []byte("x"), 0o600); err == nil {
		t.Error("a guarded file is written")
	}
}

func TestContents(t *testing.T) {
	good := authenticated([]byte("proof"), []byte("list"))
	if got, err := Contents(good); err != nil || string(got) != "list" {
		t.Errorf("%q, %v", got, err)
	}
	with := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for name, write := range map[string][]byte{
		"nothing": nil, "cut off": good[:timeBytes+certificateBytes-1], "a short proof": good[:timeBytes+certificateBytes+2],
		"another revision": with(20, 1), "another kind": with(22, 0xf0), "no PKCS #7": with(24, 0), "no proof": with(16, certificateBytes),
		"a proof behind the end": with(18, 1), "too long": append(bytes.Clone(good), make([]byte, release.MaxWriteBytes)...),
	} {
		if _, err := Contents(write); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzContents(f *testing.F) {
	f.Add(authenticated([]byte("proof"), []byte("list")))
	f.Add(authenticated(nil, nil))
	f.Fuzz(func(t *testing.T, write []byte) {
		contents, err := Contents(write)
		if err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("error %v of no known kind", err)
		}
		if !bytes.HasSuffix(write, contents) {
			t.Error("the contents are not what ends the write")
		}
	})
}
