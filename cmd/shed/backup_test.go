package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

// What is encrypted to the recovery key's recipient is saved once it is whole,
// and over nothing.
func TestSaveWhole(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := identityOf(key)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("everything"), 20_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "backup.age")
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := saveWhole(bytes.NewReader(sealed.Bytes()[:sealed.Len()-1]), name, identity); err == nil {
		t.Error("a backup that was cut was saved")
	}
	if _, err := saveWhole(bytes.NewReader(sealed.Bytes()), name, other); err == nil {
		t.Error("a backup for another was saved")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	for range 2 {
		size, err := saveWhole(bytes.NewReader(sealed.Bytes()), name, identity)
		if got, readErr := os.ReadFile(name); readErr != nil || !bytes.Equal(got, sealed.Bytes()) {
			t.Errorf("saved %d bytes: %v, %v", size, err, readErr)
		}
	}
	if _, err := saveWhole(io.LimitReader(&sealed, 0), name, identity); err == nil {
		t.Error("nothing was saved over something")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("it left %v, %v", left, err)
	}
}
