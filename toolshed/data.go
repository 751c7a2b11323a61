package toolshed

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/data"
)

// dataSection is the part of the configuration about documents, and databases
// elsewhere.
type dataSection struct {
	QuotaBytes int64                      `yaml:"quota_bytes"`
	External   map[string]externalSection `yaml:"external"`
}

type externalSection struct {
	Kind string `yaml:"kind"`
	// URL is PostgreSQL's connection string, Path SQLite's file.
	URL     config.Secret `yaml:"url"`
	Path    string        `yaml:"path"`
	Write   bool          `yaml:"write"`
	MaxRows int           `yaml:"max_rows"`
	Timeout time.Duration `yaml:"timeout"`
}

// maxExternalBytes bounds what an external query answers.
const maxExternalBytes = 8 << 20

func (r *Root) openData(ctx context.Context) error {
	section := dataSection{QuotaBytes: 4 << 30}
	if err := r.Config.Section("data", &section); err != nil {
		return err
	}
	external := map[string]data.External{}
	for name, e := range section.External {
		database, err := r.externalDatabase(e)
		if err != nil {
			return fmt.Errorf("data.external.%s: %w", name, err)
		}
		external[name] = database
	}
	db, err := r.openWithin(ctx, data.Schema, section.QuotaBytes)
	if err != nil {
		return err
	}
	kept := data.New(db, r.Now, r.Random)
	kept.Publish = r.publisher("data")
	data.Register(r.mount("data", data.Limits), kept, external)
	return nil
}

func (r *Root) externalDatabase(e externalSection) (data.External, error) {
	caps := data.Caps{Rows: cmp.Or(e.MaxRows, 1000), Bytes: maxExternalBytes, Time: cmp.Or(e.Timeout, 10*time.Second), Write: e.Write}
	if caps.Rows < 1 || caps.Time < time.Millisecond {
		return nil, fmt.Errorf("%w: max_rows and timeout are positive", config.ErrConfig)
	}
	switch e.Kind {
	case "postgres":
		address, err := r.Config.Secret(e.URL)
		if err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
		database, err := data.NewPostgres(address, r.fetch.Dial, caps)
		if err != nil {
			return nil, fmt.Errorf("%w: url: %w", config.ErrConfig, err)
		}
		return database, nil
	case "sqlite":
		if !filepath.IsAbs(e.Path) {
			return nil, fmt.Errorf("%w: path: want one from the root on", config.ErrConfig)
		}
		return &data.SQLiteFile{Path: e.Path, Caps: caps}, nil
	}
	return nil, fmt.Errorf("%w: kind: %q, want postgres or sqlite", config.ErrConfig, e.Kind)
}
