package toolshed

import (
	"context"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// quotaSection is the part of the configuration about an API that has no other
// setting.
type quotaSection struct {
	QuotaBytes int64 `yaml:"quota_bytes"`
}

// openBounded opens the database of an API whose section says its quota.
func (r *Root) openBounded(ctx context.Context, s store.Schema, quota int64) (*store.DB, error) {
	section := quotaSection{QuotaBytes: quota}
	if err := r.Config.Section(s.Name, &section); err != nil {
		return nil, err
	}
	return r.openWithin(ctx, s, section.QuotaBytes)
}

// openWithin opens a database that has a quota.
func (r *Root) openWithin(ctx context.Context, s store.Schema, quota int64) (*store.DB, error) {
	if quota <= 0 {
		return nil, fmt.Errorf("%w: %s.quota_bytes: want a number of bytes", config.ErrConfig, s.Name)
	}
	s.Quota = quota
	return r.open(ctx, s)
}
