package verity_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/verity"
)

func random(blocks int) []byte {
	source, b := rand.NewChaCha8([32]byte{1}), make([]byte, blocks*verity.BlockBytes)
	source.Read(b) //nolint:errcheck // it has no errors
	return b
}

// The tree is the one that cryptsetup makes, and cryptsetup takes it: at the
// edges of each level.
func TestTreeIsCryptsetups(t *testing.T) {
	if _, err := exec.LookPath("veritysetup"); err != nil {
		t.Fatal("veritysetup is missing: make deps")
	}
	for _, blocks := range []int{2, 127, 128, 129, 128 * 128, 128*128 + 1} {
		data := random(blocks)
		root, tree, err := verity.Tree(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if root.DataBytes != int64(len(data)) || root.TreeBytes() != int64(len(tree)) {
			t.Errorf("%d blocks: %d bytes, tree of %d and %d", blocks, root.DataBytes, root.TreeBytes(), len(tree))
		}
		dir := t.TempDir()
		theirs, file := filepath.Join(dir, "tree"), filepath.Join(dir, "data")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("veritysetup", "format", "--no-superblock", "--salt=-", "--hash=sha256", file, theirs).CombinedOutput()
		if err != nil || !strings.Contains(string(out), root.Hash.String()) {
			t.Errorf("%d blocks: %s, and cryptsetup %v\n%s", blocks, root.Hash, err, out)
		}
		if b, err := os.ReadFile(theirs); err != nil || !bytes.Equal(b, tree) {
			t.Errorf("%d blocks: the trees differ, error %v", blocks, err)
		}
	}
}

func TestTreeRefuses(t *testing.T) {
	for _, n := range []int{0, 1, verity.BlockBytes, 2*verity.BlockBytes + 1} {
		if _, _, err := verity.Tree(bytes.NewReader(make([]byte, n))); !errors.Is(err, verity.ErrRoot) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	root, _, err := verity.Tree(bytes.NewReader(random(3)))
	if err != nil {
		t.Fatal(err)
	}
	said := root.Parameter()
	got, err := verity.Parse("console=ttyS0 quiet " + said + "\n")
	if err != nil || *got != root {
		t.Errorf("%+v, error %v", got, err)
	}
	if got, err := verity.Parse("console=ttyS0 shed.payloads=1 quiet"); got != nil || err != nil {
		t.Errorf("%+v, error %v", got, err)
	}
	hash := root.Hash.String()
	for _, text := range []string{
		said + " " + said, "shed.payload=", "shed.payload=" + hash, said + "1", said + ":", "shed.payload=" + strings.ToUpper(hash) + ":8192",
		"shed.payload=" + hash + ":0", "shed.payload=" + hash + ":-4096", "shed.payload=" + hash + ":04096", "shed.payload=" + hash + ":4097",
		"shed.payload=" + strings.Repeat("0", 64) + ":8192", "shed.payload=" + hash[1:] + ":8192", fmt.Sprintf("shed.payload=%s:%d", hash, int64(1)<<41),
	} {
		if got, err := verity.Parse(text); !errors.Is(err, verity.ErrRoot) {
			t.Errorf("%q: %+v, error %v", text, got, err)
		}
	}
	if name := root.FileName(); name != "SHED/"+strings.ToUpper(hash[:8])+".IMG" {
		t.Errorf("file %s", name)
	}
	if table, want := root.Table("253:0"), "1 253:0 253:0 4096 4096 3 3 sha256 "+hash+" -"; table != want {
		t.Errorf("table %q", table)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("quiet shed.payload=" + strings.Repeat("1a", 32) + ":8192")
	f.Add("shed.payload=x:y")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := verity.Parse(text)
		if err != nil && !errors.Is(err, verity.ErrRoot) || r != nil && !strings.Contains(text, r.Parameter()) {
			t.Fatalf("%+v, error %v", r, err)
		}
	})
}
