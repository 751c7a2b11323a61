package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Provider is one that makes machines.
type Provider struct {
	// Plugin is its program; empty for the one beside this program.
	Plugin   string
	Settings []byte
}

// Place is where, and as what, a machine is made. Provider is empty for
// provider.name's.
type Place struct {
	Provider string `json:"provider"`
	Region   string `json:"region"`
	Size     string `json:"size"`
}

// Providers are all there are, by name.
func (c *Config) Providers() map[string]Provider {
	all := map[string]Provider{c.ProviderName: {Plugin: c.Plugin, Settings: c.Settings}}
	maps.Copy(all, c.More)
	return all
}

// providerNames are what plugins' programs end with.
var providerNames = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func moreProviders(c *Config, s, dir string) error {
	c.More = nil
	var named map[string]struct {
		Plugin   string         `json:"plugin"`
		Settings map[string]any `json:"settings"`
	}
	if err := strictJSON(s, &named); err != nil {
		return err
	}
	for name, p := range named {
		if !providerNames.MatchString(name) {
			return fmt.Errorf("%q is no provider's name: lower-case letters, digits and dashes", name)
		}
		if p.Settings == nil {
			p.Settings = map[string]any{}
		}
		b, err := json.Marshal(p.Settings)
		if err != nil {
			return err
		}
		if c.More == nil {
			c.More = map[string]Provider{}
		}
		c.More[name] = Provider{Plugin: from(dir, p.Plugin), Settings: b}
	}
	return nil
}

func pluginKeys(c *Config, s, dir string) error {
	c.PluginKeys = nil
	if err := strictJSON(s, &c.PluginKeys); err != nil {
		return err
	}
	for n := range c.PluginKeys {
		c.PluginKeys[n] = from(dir, c.PluginKeys[n])
	}
	return nil
}

// maxPlaces caps a list of places.
const maxPlaces = 64

func places(c *Config, s, _ string) error {
	c.Places = nil
	if err := strictJSON(s, &c.Places); err != nil {
		return err
	}
	return checkPlaces(c.Places)
}

func plans(c *Config, s, _ string) error {
	c.Plans = nil
	if err := strictJSON(s, &c.Plans); err != nil {
		return err
	}
	for name, list := range c.Plans {
		if len(list) == 0 {
			return fmt.Errorf("plan %s has no places", name)
		}
		if err := checkPlaces(list); err != nil {
			return fmt.Errorf("plan %s: %w", name, err)
		}
	}
	return nil
}

func checkPlaces(list []Place) error {
	if len(list) > maxPlaces {
		return fmt.Errorf("has %d places, at most %d", len(list), maxPlaces)
	}
	for n, p := range list {
		if p.Region == "" || p.Size == "" {
			return fmt.Errorf("place %d needs a region and a size", n+1)
		}
	}
	return nil
}

// settlePlaces gives every place its provider, and refuses one whose provider
// is not configured.
func (c *Config) settlePlaces() error {
	if _, twice := c.More[c.ProviderName]; twice {
		return c.Errorf("providers", fmt.Errorf("%s is provider.name's already: its settings are provider.settings", c.ProviderName))
	}
	if len(c.Places) == 0 {
		c.Places = []Place{{Region: c.Region, Size: c.Size}}
	}
	if err := c.settle(c.Places); err != nil {
		return c.Errorf("instance.places", err)
	}
	for name, list := range c.Plans {
		if err := c.settle(list); err != nil {
			return c.Errorf("plans", fmt.Errorf("plan %s: %w", name, err))
		}
	}
	return nil
}

var errProvider = errors.New("provider is not configured")

func (c *Config) settle(list []Place) error {
	all := c.Providers()
	for n := range list {
		if list[n].Provider == "" {
			list[n].Provider = c.ProviderName
		}
		if _, ok := all[list[n].Provider]; !ok {
			return fmt.Errorf("place %d: %w: %s is none of %s", n+1, errProvider, list[n].Provider, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
	}
	return nil
}
