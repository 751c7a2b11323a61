package secureboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// changedKeys are a directory of keys before, and one after change.
func changedKeys(t *testing.T, change func(dir string) error) (before, after string) {
	t.Helper()
	before = keysDir(t)
	after = filepath.Join(t.TempDir(), "after")
	if err := os.CopyFS(after, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	if err := change(after); err != nil {
		t.Fatal(err)
	}
	return before, after
}

func read(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A certificate comes into db and goes out of it again, and the image goes on being
// signed by the same one.
func TestDBGainsACertificate(t *testing.T) {
	other := keysDir(t)
	next := filepath.Join(other, "db.crt")
	before, after := changedKeys(t, func(dir string) error { return errors.Join(Trust(dir, next), Trust(dir, next)) })
	a, b := read(t, before), read(t, after)
	had, err := a.Authority()
	if err != nil {
		t.Fatal(err)
	}
	if has, err := b.Authority(); err != nil || !bytes.Equal(had, has) {
		t.Errorf("another entry vouches: %v", err)
	}
	want := Change{Variable: "db", Data: b.DB, Adds: []attest.Digest{attest.Sum(read(t, other).DB[listHead+len(owner):])}}
	got, err := a.ChangeOf(b)
	if err != nil || got.Variable != want.Variable || !bytes.Equal(got.Data, want.Data) || !slices.Equal(got.Adds, want.Adds) || got.Removes != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ReadSigner(after); err != nil {
		t.Error(err)
	}
	if back, err := b.ChangeOf(a); err != nil || !slices.Equal(back.Removes, want.Adds) || back.Adds != nil {
		t.Errorf("back: %+v, %v", back, err)
	}
	if err := Distrust(after, next); err != nil || !bytes.Equal(read(t, after).DB, a.DB) {
		t.Errorf("taken out again: %v", err)
	}
	if err := Distrust(after, filepath.Join(after, "db.crt")); !errors.Is(err, ErrKeys) {
		t.Errorf("the one that signs taken out: %v", err)
	}
	if err := os.Remove(filepath.Join(after, "db.crt")); err != nil {
		t.Fatal(err)
	}
	if err := Trust(after, next); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody knows which one signs: %v", err)
	}
}

// Which certificate vouches for an image is nobody's choice.
func TestOneOfSeveralVouches(t *testing.T) {
	k := read(t, keysDir(t))
	mine, err := k.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := read(t, keysDir(t)).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		db       []byte
		vouching []byte
	}{
		"neither":      {certificateList(other.Raw), mine.Raw},
		"twice":        {append(certificateList(mine.Raw), certificateList(mine.Raw)...), mine.Raw},
		"with a hash":  {append(certificateList(mine.Raw), digestList([][32]byte{{1}})...), mine.Raw},
		"with no cert": {append(certificateList(mine.Raw), certificateList([]byte{1, 2})...), mine.Raw},
	} {
		keys := Keys{PK: k.PK, KEK: k.KEK, DB: c.db, Vouching: c.vouching}
		if _, err := keys.Authority(); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChangesThatAreNone(t *testing.T) {
	k := read(t, keysDir(t))
	another := read(t, keysDir(t))
	revoking := *k
	revoking.DBX = digestList([][32]byte{{7}})
	both := revoking
	both.DB = append(slices.Clone(k.DB), another.DB...)
	unknown := *k
	unknown.DBX = list(guid{1}, 48, make([]byte, 48))
	for name, c := range map[string][2]*Keys{
		"none": {k, k}, "another owner": {k, another}, "both": {k, &both}, "an emptied dbx": {&revoking, k}, "an unknown list": {k, &unknown},
	} {
		if _, err := c[0].ChangeOf(c[1]); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
	change, err := k.ChangeOf(&revoking)
	if err != nil || change.Variable != "dbx" || !slices.Equal(change.Adds, []attest.Digest{{7}}) {
		t.Errorf("%+v, %v", change, err)
	}
	if yes, err := revoking.Revokes(attest.Digest{7}); err != nil || !yes {
		t.Errorf("%v, %v", yes, err)
	}
	if yes, err := revoking.Revokes(attest.Digest{8}); err != nil || yes {
		t.Errorf("%v, %v", yes, err)
	}
}

// written is what an authenticated write consists of.
func written(t *testing.T, write []byte) (at, proof, data []byte) {
	t.Helper()
	length := binary.LittleEndian.Uint32(write[16:])
	if int(length) > len(write)-16 {
		t.Fatalf("a certificate of %d bytes in %d", length, len(write))
	}
	return write[:16], write[16+certificateHead : 16+length], write[16+length:]
}

// The same keys and epoch make the same write, and a later epoch a later one.
func TestWriteFollowsFromItsEpoch(t *testing.T) {
	_, after := changedKeys(t, func(dir string) error { return Revoke(dir, testProgram(1)) })
	x, err := ReadExchange(after)
	if err != nil {
		t.Fatal(err)
	}
	one, err := x.Write("dbx", 86400+61)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x.Write("dbx", 86400+61)
	if err != nil || !bytes.Equal(one, again) {
		t.Errorf("it is another: %v", err)
	}
	at, _, data := written(t, one)
	if !bytes.Equal(at, []byte{0xd0, 0x07, 1, 2, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}) || !bytes.Equal(data, read(t, after).DBX) {
		t.Errorf("time %x, %d bytes", at, len(data))
	}
	if other, err := x.Write("dbx", 7); err != nil || bytes.Equal(one, other) {
		t.Errorf("of another epoch it is the same: %v", err)
	}
	for variable, epoch := range map[string]uint64{"KEK": 1, "db": maxTimedEpoch + 1} {
		if _, err := x.Write(variable, epoch); !errors.Is(err, ErrKeys) {
			t.Errorf("%s at epoch %d: %v", variable, epoch, err)
		}
	}
}

func TestExchangeIsKEKs(t *testing.T) {
	dir, other := keysDir(t), keysDir(t)
	if err := os.Remove(filepath.Join(dir, "KEK.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExchange(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	key, err := os.ReadFile(filepath.Join(other, "KEK.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "KEK.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadExchange(dir); !errors.Is(err, ErrKeys) {
		t.Errorf("another's key: %v", err)
	}
}

// Programs that are not ours make of the write what is meant: sbvarsign lays one out
// alike, whose proof openssl accepts for the very bytes that it accepts ours for.
func TestOthersReadTheWrite(t *testing.T) {
	sbvarsign, err := exec.LookPath("sbvarsign")
	if err != nil {
		t.Skip("no sbvarsign: it is in the package sbsigntool, which make deps installs")
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl, which make deps installs")
	}
	_, dir := changedKeys(t, func(dir string) error { return Revoke(dir, testProgram(1)) })
	x, err := ReadExchange(dir)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := x.Write("dbx", 3)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dbx.auth")
	out, err := exec.Command(sbvarsign, "--key", filepath.Join(dir, "KEK.key"), "--cert", filepath.Join(dir, "KEK.crt"),
		"--attr", "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS", "--output", file, "dbx", filepath.Join(dir, "dbx.esl")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours[20:40], theirs[20:40]) {
		t.Errorf("the head is %x, theirs %x", ours[20:40], theirs[20:40])
	}
	for name, write := range map[string][]byte{"ours": ours, "theirs": theirs} {
		at, proof, data := written(t, write)
		if !bytes.Equal(data, x.Contents("dbx")) {
			t.Errorf("%s has other contents", name)
		}
		if err := verifies(t, openssl, dir, proof, signedPart("dbx", at, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if verifies(t, openssl, dir, proof, signedPart("db", at, data)) == nil {
			t.Errorf("%s is accepted for another variable", name)
		}
	}
}

// verifies has openssl verify a proof, which lacks what it wants around it.
func verifies(t *testing.T, openssl, dir string, proof, content []byte) error {
	t.Helper()
	p7, about := filepath.Join(t.TempDir(), "proof.der"), filepath.Join(t.TempDir(), "content")
	if proof[4] != 0x06 { // no ContentInfo
		head := []byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2, 0xa0, 0x82}
		inner := append(binary.BigEndian.AppendUint16(head, uint16(len(proof))), proof...)
		proof = append(binary.BigEndian.AppendUint16([]byte{0x30, 0x82}, uint16(len(inner))), inner...)
	}
	if err := errors.Join(os.WriteFile(p7, proof, 0o600), os.WriteFile(about, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "smime", "-verify", "-inform", "DER", "-in", p7, "-content", about, "-binary",
		"-CAfile", filepath.Join(dir, "KEK.crt"), "-purpose", "any", "-out", os.DevNull).CombinedOutput()
	t.Logf("%s", out)
	return err
}

func FuzzSignatures(f *testing.F) {
	f.Add(digestList([][32]byte{{1}, {2}}))
	f.Add(append(sized(40), digestList([][32]byte{{1}})...))
	f.Add(certificateList([]byte{1}))
	f.Fuzz(func(t *testing.T, lists []byte) {
		all, err := signatures(lists)
		if err != nil && !errors.Is(err, ErrKeys) {
			t.Errorf("error %v of no known kind", err)
		}
		for _, s := range all {
			if s.kind == typeSHA256 && len(s.content()) != 32 {
				t.Errorf("a hash of %d bytes", len(s.content()))
			}
		}
	})
}
