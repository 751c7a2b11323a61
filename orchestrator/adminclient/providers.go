package adminclient

import (
	"context"
	"encoding/json"
	"net/http"
)

// Provider is one that makes machines.
type Provider struct {
	Name         string   `json:"name"`
	Version      string   `json:"version"`
	Default      bool     `json:"default" doc:"that of places that name none"`
	Capabilities []string `json:"capabilities"`
	Notes        []string `json:"notes,omitempty"`
	// Settings is the JSON Schema of what the provider is configured with.
	Settings json.RawMessage `json:"settings,omitempty" doc:"JSON Schema of what the provider is configured with"`
	// Problem says why it does not answer; empty where it does.
	Problem string `json:"problem,omitempty"`
}

// Providers are all of them.
type Providers struct {
	Providers []Provider `json:"providers"`
}

// Offering is a size that can be had in a region.
type Offering struct {
	Provider      string `json:"provider"`
	Region        string `json:"region"`
	Size          string `json:"size"`
	VCPUs         int    `json:"vcpus"`
	MemoryBytes   int64  `json:"memory_bytes"`
	Available     int    `json:"available" doc:"how many more the quota allows; -1 where that is not known"`
	MicrosPerHour int64  `json:"micros_per_hour" doc:"the price in millionths of the currency; 0 for one's own hardware"`
	Currency      string `json:"currency,omitempty"`
	PricedAt      Time   `json:"priced_at,omitzero" doc:"when it was the price, where it was not just asked for"`
	Confidential  string `json:"confidential,omitempty" doc:"how memory is kept from the host, such as sev-snp"`
}

// Offerings are those of all providers; Problems say which do not answer, and
// why.
type Offerings struct {
	Offerings []Offering        `json:"offerings"`
	Problems  map[string]string `json:"problems,omitempty"`
}

// Resize asks for a larger data disk.
type Resize struct {
	DataBytes int64 `json:"data_bytes" minimum:"16777216" maximum:"17592186044416" multipleOf:"512"`
}

// Snapshot is a copy of an instance's data disk, as encrypted as the disk is.
type Snapshot struct {
	ID        string `json:"id"`
	Bytes     int64  `json:"bytes"`
	CreatedAt Time   `json:"created_at"`
	Complete  bool   `json:"complete" doc:"it can be restored"`
}

// Providers lists them. Errors are those of every call.
func (c *Client) Providers(ctx context.Context) ([]Provider, error) {
	var all Providers
	err := c.call(ctx, http.MethodGet, "/v1/providers", nil, &all)
	return all.Providers, err
}

// Offerings lists what can be had where. Errors are those of every call.
func (c *Client) Offerings(ctx context.Context) (all Offerings, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/offerings", nil, &all)
	return all, err
}

// Resize grows an instance's data disk, which goes on after the answer. Errors
// are those of every call.
func (c *Client) Resize(ctx context.Context, id string, dataBytes int64) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancePath(id)+"/resize", Resize{DataBytes: dataBytes}, &i)
	return i, err
}

// TakeSnapshot copies an instance's data disk under an id of the caller's, or
// answers how far the one of that id is. Errors are those of every call.
func (c *Client) TakeSnapshot(ctx context.Context, id, snapshot string) (s Snapshot, err error) {
	err = c.call(ctx, http.MethodPut, instancePath(id)+"/snapshots/"+snapshot, nil, &s)
	return s, err
}

// RestoreSnapshot sets an instance's data disk back, which goes on after the
// answer. Errors are those of every call.
func (c *Client) RestoreSnapshot(ctx context.Context, id, snapshot string) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancePath(id)+"/snapshots/"+snapshot+"/restore", nil, &i)
	return i, err
}

// DeleteSnapshot removes one. Errors are those of every call.
func (c *Client) DeleteSnapshot(ctx context.Context, id, snapshot string) error {
	return c.call(ctx, http.MethodDelete, instancePath(id)+"/snapshots/"+snapshot, nil, nil)
}
