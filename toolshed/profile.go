package toolshed

import (
	"context"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/profile"
)

// profileSection is the part of the configuration about the profile.
type profileSection struct {
	QuotaBytes int64 `yaml:"quota_bytes"`
}

func (r *Root) openProfile(ctx context.Context) error {
	section := profileSection{QuotaBytes: 1 << 30}
	if err := r.Config.Section("profile", &section); err != nil {
		return err
	}
	if section.QuotaBytes <= 0 {
		return fmt.Errorf("%w: profile: quota_bytes is positive", config.ErrConfig)
	}
	db, err := r.open(ctx, profile.Schema)
	if err != nil {
		return err
	}
	kept, err := profile.New(ctx, profile.Options{
		DB: db, Now: r.Now, Quota: section.QuotaBytes, Publish: r.publisher("profile"), Forget: r.forgetter("profile"),
	})
	if err != nil {
		return err
	}
	profile.Register(r.mount("profile", profile.Limits), kept)
	return nil
}
