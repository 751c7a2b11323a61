package libvirt

import (
	"encoding/xml"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
)

// The namespace of what is written into a domain's metadata, and its prefix.
const (
	tagsNamespace = "https://toolshed.cloud/xmlns/libvirt/1"
	tagsPrefix    = "shed"
	maxTagsBytes  = 16 << 10
)

// tags are what a domain's metadata says of its machine. They are written
// before anything is done that they speak of.
type tags struct {
	XMLName      xml.Name                 `xml:"machine"`
	Machine      providers.MachineID      `xml:"id,attr"`
	Installation providers.InstallationID `xml:"installation,attr"`
	// Generation is the last one that was applied.
	Generation  uint64               `xml:"generation,attr"`
	SpecHash    attest.Digest        `xml:"spec-hash,attr"`
	Release     attest.ReleaseDigest `xml:"release,attr"`
	Size        string               `xml:"size,attr"`
	VCPUs       int                  `xml:"vcpus,attr"`
	MemoryBytes int64                `xml:"memory-bytes,attr"`
	CreatedAt   time.Time            `xml:"created-at,attr"`
	// Port is the host's that leads to the machine; 0 on a network.
	Port int `xml:"port,attr"`
	// Disk is the machine that the data volume was made for; DataFrom the one
	// that it was kept of, empty where it is this machine's own.
	Disk     providers.MachineID `xml:"disk,attr"`
	DataFrom providers.MachineID `xml:"data-from,attr,omitempty"`
	// Made says that the volumes are there.
	Made bool `xml:"made,attr"`
	// On is the power that was asked for; Started says that the start that was
	// asked for last has happened, and Failure why it came to nothing.
	On       bool   `xml:"on,attr"`
	Started  bool   `xml:"started,attr"`
	Failure  string `xml:"failure,attr,omitempty"`
	Deleting bool   `xml:"deleting,attr,omitempty"`
}

func parseTags(text string) (tags, error) {
	var t tags
	if len(text) > maxTagsBytes {
		return t, fmt.Errorf("the domain's metadata has %d bytes, at most %d", len(text), maxTagsBytes)
	}
	if err := xml.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("reading the domain's metadata: %w", err)
	}
	switch {
	case !plainID.MatchString(string(t.Machine)):
		return t, fmt.Errorf("the domain's metadata names the machine %.64q", t.Machine)
	case !plainID.MatchString(string(t.Installation)):
		return t, fmt.Errorf("the domain's metadata names the installation %.64q", t.Installation)
	case !plainID.MatchString(string(t.Disk)):
		return t, fmt.Errorf("the domain's metadata names the disk %.64q", t.Disk)
	case t.DataFrom != "" && !plainID.MatchString(string(t.DataFrom)):
		return t, fmt.Errorf("the domain's metadata names the kept disk %.64q", t.DataFrom)
	case t.Port < 0 || t.Port > 65535:
		return t, fmt.Errorf("the domain's metadata names port %d", t.Port)
	}
	if err := t.shape().Check(); err != nil {
		return t, fmt.Errorf("the domain's metadata: %w", err)
	}
	return t, nil
}

func (t tags) shape() board.Shape { return board.Shape{VCPUs: t.VCPUs, MemoryBytes: t.MemoryBytes} }

// dataVolume is the name of the machine's data disk.
func (t tags) dataVolume() string { return volumeName(t.Installation, t.Disk, kindData) }

func (t tags) volume(k kind) string { return volumeName(t.Installation, t.Machine, k) }

func (t tags) encode() (string, error) {
	b, err := xml.Marshal(t)
	return string(b), err
}
