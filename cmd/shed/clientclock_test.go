package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// No clock is right that says it is before the program was built, whether a log is
// asked or not.
func TestClockIsNotBeforeTheBuild(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := clientFlags{
		releaseKey: write("release.pub", "PUBLIC KEY", logtest.NewReleaseKey(t).DER()),
		ekRoots:    []string{write("root.pem", "CERTIFICATE", chaintest.Root(t, "root", chaintest.P256(t), nil).Certificate.Raw)},
	}
	cmd, _, err := newRootCommand().Find([]string{"verify"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{"--state", dir}); err != nil {
		t.Fatal(err)
	}
	c, err := f.relyingParty(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if !c.trust.Log.NotRequired || !c.trust.Log.TimeFloor.Equal(buildTime()) {
		t.Errorf("where no log is asked the clock's floor is %s, want %s", c.trust.Log.TimeFloor, buildTime())
	}
}
