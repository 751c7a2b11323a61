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

// A number that makes no sense is said at the start.
func TestNumbersThatMakeNoSense(t *testing.T) {
	for _, text := range []string{"functions: {concurrent: -1}", "functions: {concurrent: 0}", "functions: {quota_bytes: 0}", "blobs: {quota_bytes: 0}"} {
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
		_, err = toolshed.Open(t.Context(), toolshed.Options{Data: data, Config: c, Log: zap.NewNop()})
		if !errors.Is(err, config.ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	}
}
