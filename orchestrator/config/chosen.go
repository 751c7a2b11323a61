package config

import (
	"errors"
	"fmt"
	"slices"
)

// providerFlag is what the provider that is to be used comes from.
const providerFlag = "--provider"

var errContradiction = errors.New("that contradicts " + providerFlag)

// provider makes the provider that is to be used provider.name's.
func (s Sources) provider(values map[string]Value) error {
	if s.Provider == "" {
		return nil
	}
	if !providerNames.MatchString(s.Provider) {
		return fmt.Errorf("%w: %s: %q is no provider's name: lower-case letters, digits and dashes", ErrConfig, providerFlag, s.Provider)
	}
	v := values["provider.name"]
	if v.Source != sourceDefault && v.Value != s.Provider {
		return fmt.Errorf("%w: provider.name is %s (from %s): %w %s", ErrConfig, v.Value, v.Source, errContradiction, s.Provider)
	}
	v.Value, v.Source, v.dir = s.Provider, providerFlag, ""
	values["provider.name"] = v
	return nil
}

// use takes the settings of the provider that is to be used from providers,
// where it has some there, and refuses a configuration that makes no machine
// with it.
func (c *Config) use(name string) error {
	if name == "" {
		return nil
	}
	if named, ok := c.More[name]; ok {
		for _, key := range []string{"provider.settings", "provider.plugin"} {
			if source := c.sources[key]; source != sourceDefault {
				return c.Errorf(key, fmt.Errorf("%w %s, which has its own in providers", errContradiction, name))
			}
		}
		c.Plugin, c.Settings = named.Plugin, named.Settings
		delete(c.More, name)
	}
	uses := func(p Place) bool { return p.Provider == "" || p.Provider == name }
	used := len(c.Places) == 0 || slices.ContainsFunc(c.Places, uses)
	for _, list := range c.Plans {
		used = used || slices.ContainsFunc(list, uses)
	}
	if !used {
		return c.Errorf("instance.places", fmt.Errorf("%w %s: every place names another", errContradiction, name))
	}
	return nil
}
