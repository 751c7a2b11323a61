package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// rolePlugin, with a provider's name behind it, makes this program the plugin
// that is measured.
const rolePlugin = "plugin"

func servePlugin(name string) error {
	p := providers.Provider(memory.New(time.Now))
	if name == aws.Name {
		p = aws.New(aws.Options{Version: "bench", Log: plugin.Logger()})
	}
	return plugin.Serve(p)
}

// openPlugin starts this program as a plugin. A plugin is a program without
// arguments, so there is a script for it.
func openPlugin(ctx context.Context, name, dir string) (*plugin.Supervisor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "shed-provider-"+name)
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' %s %s\n", self, rolePlugin, name), 0o700); err != nil {
		return nil, err
	}
	return plugin.Open(ctx, plugin.Options{Name: name, Path: program, RuntimeDir: dir})
}
