package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator/config"
)

func TestAProviderIsChosen(t *testing.T) {
	for name, c := range map[string]struct {
		content        string
		settings, more string
	}{
		"with provider.settings": {"version: 1\nprovider: {settings: {region: here}}\n", `{"region":"here"}`, ""},
		"as it is named":         {"version: 1\nprovider: {name: aws, settings: {region: here}}\n", `{"region":"here"}`, ""},
		"out of several":         {"version: 1\nproviders: {aws: {plugin: p/a, settings: {region: there}}, memory: {}}\n", `{"region":"there"}`, "memory"},
		"with a place": {
			"version: 1\nproviders: {aws: {}, memory: {}}\ninstance: {places: [{provider: memory, region: r, size: s}, {region: r, size: s}]}\n", `{}`, "memory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, values, err := config.Load(config.Sources{File: write(t, c.content), Env: none, Provider: "aws"})
			if err != nil {
				t.Fatal(err)
			}
			if got.ProviderName != "aws" || string(got.Settings) != c.settings {
				t.Errorf("provider %s with %s", got.ProviderName, got.Settings)
			}
			all := got.Providers()
			if _, ok := all[c.more]; len(all) != 1 && !ok || c.more == "" && len(all) != 1 {
				t.Errorf("providers %v", all)
			}
			for _, v := range values {
				if v.Key == "provider.name" && (v.Value != "aws" || v.Source != "--provider") {
					t.Errorf("explained as %s from %s", v.Value, v.Source)
				}
			}
		})
	}
}

func TestAContradictionOfTheChosenProviderIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ content, says string }{
		"another name": {"version: 1\nprovider:\n  name: qemu\n", "shed.yaml:3"},
		"settings in two places": {
			"version: 1\nprovider: {settings: {a: 1}}\nproviders: {aws: {}}\n", "provider.settings",
		},
		"no place": {
			"version: 1\nproviders: {memory: {}}\ninstance: {places: [{provider: memory, region: r, size: s}]}\n", "instance.places",
		},
	} {
		_, _, err := config.Load(config.Sources{File: write(t, c.content), Env: none, Provider: "aws"})
		said := fmt.Sprint(err)
		if !errors.Is(err, config.ErrConfig) || !strings.Contains(said, "contradicts --provider aws") || !strings.Contains(said, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := config.Load(config.Sources{Env: none, Provider: "../aws"}); !errors.Is(err, config.ErrConfig) {
		t.Errorf("a path as a name: %v", err)
	}
}
