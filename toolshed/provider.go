package toolshed

import (
	"fmt"
	"net/url"

	"github.com/toolshed-cloud/shed/toolshed/config"
)

// provider is somebody else's server in the configuration.
type provider struct {
	Kind string        `yaml:"kind"`
	URL  string        `yaml:"url"`
	Key  config.Secret `yaml:"key"`
}

// providerKey checks where a provider is, and reads its key; empty for none.
func (r *Root) providerKey(p provider) (string, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%w: url: %q is no http or https address", config.ErrConfig, p.URL)
	}
	if p.Key.IsZero() {
		return "", nil
	}
	return r.Config.Secret(p.Key)
}
