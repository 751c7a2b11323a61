// Package remote is the provider of a memory cloud that runs in another
// process.
//
// Invariants: it keeps nothing but the connection, so that one which is killed
// loses nothing; and it says of itself that it is for tests.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// Provider speaks with the cloud that its settings name. Calls that it does
// not answer itself are the cloud's.
type Provider struct {
	*plugin.Socket

	mu sync.Mutex
	// mu guards path, the cloud's Unix socket; empty before Configure.
	path string
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Consoler     = (*Provider)(nil)
	_ providers.Snapshotter  = (*Provider)(nil)
	_ providers.DataAttacher = (*Provider)(nil)
	_ providers.Watcher      = (*Provider)(nil)
	_ providers.Endorser     = (*Provider)(nil)
)

// New answers a provider that waits for Configure. Errors are plugin.Dial's.
func New() (*Provider, error) {
	p := &Provider{}
	var err error
	p.Socket, err = plugin.Dial(p.connect)
	return p, err
}

var errNotConfigured = errors.New("the provider is not configured")

func (p *Provider) connect(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	path := p.path
	p.mu.Unlock()
	if path == "" {
		return nil, errNotConfigured
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// socketSetting names the cloud's Unix socket; the other settings are the
// cloud's own.
const socketSetting = "cloud"

// Info says who this is; it needs no cloud.
func (p *Provider) Info(context.Context) (providers.Info, error) {
	info := memory.Describe()
	var document map[string]any
	if err := json.Unmarshal(info.ConfigSchema, &document); err != nil {
		return info, providers.Errorf(providers.CodeInternal, "reading the schema: %s", err)
	}
	properties, ok := document["properties"].(map[string]any)
	if !ok {
		return info, providers.Errorf(providers.CodeInternal, "the schema has no properties")
	}
	properties[socketSetting] = map[string]string{"type": "string", "description": "the Unix socket of the cloud"}
	document["required"] = []string{socketSetting}
	var err error
	info.ConfigSchema, err = json.MarshalIndent(document, "", "  ")
	return info, err
}

// Configure takes the socket, and hands the rest to the cloud.
func (p *Provider) Configure(ctx context.Context, raw []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil || all == nil {
		return providers.Errorf(providers.CodeInvalid, "the settings are no object")
	}
	var path string
	if given, ok := all[socketSetting]; ok {
		if err := json.Unmarshal(given, &path); err != nil {
			return providers.Errorf(providers.CodeInvalid, "settings: %s is no text", socketSetting)
		}
	}
	delete(all, socketSetting)
	rest, err := json.Marshal(all)
	if err != nil {
		return providers.Errorf(providers.CodeInternal, "encoding the settings: %s", err)
	}
	// What is wrong with the others is said before a socket is missed.
	if err := memory.CheckSettings(rest); err != nil {
		return err
	}
	if err := p.use(path); err != nil {
		return err
	}
	p.Redial()
	return p.Socket.Configure(ctx, rest)
}

// use settles where the cloud is.
func (p *Provider) use(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case path == "":
		return providers.Errorf(providers.CodeInvalid, "settings: %s is missing", socketSetting)
	case p.path != "" && p.path != path:
		return providers.Errorf(providers.CodeInvalid, "%s cannot change while the provider runs", socketSetting)
	}
	p.path = path
	return nil
}
