package toolshed_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// refusal is why a toolshed does not open on a configuration.
func refusal(t *testing.T, text string) error {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(file, []byte("version: 1\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, true, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	root, err := toolshed.Open(t.Context(), toolshed.Options{Data: data, Config: c, Log: zap.NewNop()})
	if err == nil {
		root.Close()
	}
	return err
}

// A number that makes no sense is said at the start.
func TestNumbersThatMakeNoSense(t *testing.T) {
	for _, text := range []string{"functions: {concurrent: -1}", "functions: {concurrent: 0}", "functions: {quota_bytes: 0}", "blobs: {quota_bytes: 0}", "kv: {quota_bytes: 0}", "queue: {quota_bytes: -1}", "data: {quota_bytes: 0}"} {
		if err := refusal(t, text); !errors.Is(err, config.ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
