package toolshed

import (
	"context"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/img"
)

// imgSection is the part of the configuration about images.
type imgSection struct {
	Providers  map[string]provider `yaml:"providers"`
	Timeout    time.Duration       `yaml:"timeout"`
	QuotaBytes int64               `yaml:"quota_bytes"`
}

func (r *Root) openImg(ctx context.Context) error {
	section := imgSection{Timeout: 3 * time.Minute, QuotaBytes: 4 << 30}
	if err := r.Config.Section("img", &section); err != nil {
		return err
	}
	client := r.fetch.Client(fetch.Limits{Timeout: section.Timeout, Bytes: img.MaxCount * img.MaxBytes * 2, Redirects: 3})
	g := &img.Gallery{Providers: map[string]img.Provider{}, Now: r.Now, Quota: section.QuotaBytes}
	for name, p := range section.Providers {
		key, err := r.providerKey(p)
		if err != nil {
			return fmt.Errorf("img.providers.%s: %w", name, err)
		}
		switch p.Kind {
		case "openai":
			g.Providers[name] = img.OpenAI{Base: p.URL, Key: key, Client: client}
		case "fal":
			g.Providers[name] = img.Fal{Base: p.URL, Key: key, Client: client}
		case "stable-diffusion":
			g.Providers[name] = img.StableDiffusion{Base: p.URL, Client: client}
		default:
			return fmt.Errorf("%w: img.providers.%s.kind: %q, want openai, fal or stable-diffusion", config.ErrConfig, name, p.Kind)
		}
	}
	db, err := r.open(ctx, img.Schema)
	if err != nil {
		return err
	}
	g.DB = db
	img.Register(r.mount("img", img.Limits), g)
	return nil
}
