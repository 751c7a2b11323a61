package libvirt

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"net"
	"strconv"
	"strings"
	"text/template"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// The domain is the board of attest/board, as libvirt has it put together: the
// same parts in the same places, so that a release's firmware measures on it
// what it measures there.
//
//go:embed domain.xml.tmpl
var domainText string

var domainTemplate = template.Must(template.New("domain").Funcs(template.FuncMap{"x": escape}).Parse(domainText))

// escape makes text stand in XML as it is.
func escape(text string) string {
	var b bytes.Buffer
	// A buffer takes everything.
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}

// domainData is what the template takes.
type domainData struct {
	hostSettings
	tags
	Name, UUID, MAC, Tags string
	Code, Pristine        string
	SecureBoot            bool
	Config, Console       string
	System, Data          diskXML
	MemoryKiB             int64
	Forward               string
}

// diskXML is a disk: the type, the driver's format, and the source element.
type diskXML struct{ Type, Format, Source string }

// disk renders where a volume of the pool is.
func (p pool) disk(volume, format string) diskXML {
	switch p.description.Type {
	case poolLogical:
		return diskXML{"block", "raw", fmt.Sprintf("<source dev='%s'/>", escape(p.path(volume)))}
	case poolRBD:
		var b strings.Builder
		source := p.description.Source
		fmt.Fprintf(&b, "<source protocol='rbd' name='%s/%s'>", escape(source.Name), escape(volume))
		for _, h := range source.Hosts {
			fmt.Fprintf(&b, "<host name='%s'", escape(h.Name))
			if h.Port != "" {
				fmt.Fprintf(&b, " port='%s'", escape(h.Port))
			}
			b.WriteString("/>")
		}
		if a := source.Auth; a != nil {
			fmt.Fprintf(&b, "<auth username='%s'><secret type='ceph'", escape(a.Username))
			if a.Secret.UUID != "" {
				fmt.Fprintf(&b, " uuid='%s'/></auth>", escape(a.Secret.UUID))
			} else {
				fmt.Fprintf(&b, " usage='%s'/></auth>", escape(a.Secret.Usage))
			}
		}
		b.WriteString("</source>")
		return diskXML{"network", "raw", b.String()}
	}
	return diskXML{"file", format, fmt.Sprintf("<source file='%s'/>", escape(p.path(volume)))}
}

// render is the domain of a machine, with the release's own firmware where that
// is not nil.
func (h *host) render(l *link, t tags, firmware *sdk.FirmwareInfo) (string, error) {
	encoded, err := t.encode()
	if err != nil {
		return "", fmt.Errorf("encoding the metadata: %w", err)
	}
	u := uuidOf(t.Machine)
	d := domainData{
		hostSettings: h.hostSettings, tags: t,
		Name: domainName(t.Machine),
		UUID: fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]),
		// Locally administered, and QEMU's by custom.
		MAC:  fmt.Sprintf("52:54:00:%02x:%02x:%02x", u[0], u[1], u[2]),
		Tags: strings.Replace(encoded, "<machine", "<shed:machine xmlns:shed='"+tagsNamespace+"'", 1),
		Code: h.Firmware, Pristine: h.FirmwareVariables,
		Config:    l.files.path(t.volume(kindConfig)),
		Console:   l.files.path(t.volume(kindConsole)),
		System:    l.pool.disk(t.volume(kindSystem), "qcow2"),
		Data:      l.pool.disk(t.dataVolume(), "raw"),
		MemoryKiB: t.MemoryBytes >> 10,
	}
	d.Tags = strings.Replace(d.Tags, "</machine>", "</shed:machine>", 1)
	if firmware != nil {
		d.SecureBoot = firmware.SecureBoot
		d.Code = l.files.path(imageName(t.Release, imageFirmware))
		d.Pristine = l.files.path(imageName(t.Release, imageVariables))
	}
	if h.Network == "" {
		d.Forward = fmt.Sprintf("user,id=shed,hostfwd=tcp:%s-:443", h.endpoint(t.Port))
	}
	var out bytes.Buffer
	if err := domainTemplate.Execute(&out, d); err != nil {
		return "", fmt.Errorf("describing the domain: %w", err)
	}
	return out.String(), nil
}

func (h *host) endpoint(port int) string { return net.JoinHostPort(h.Address, strconv.Itoa(port)) }

// define makes the domain what it should be.
func (h *host) define(l *link, t tags) error {
	info, err := h.image(l, t.Release)
	if err != nil {
		return err
	}
	if info == nil {
		return providers.Errorf(providers.CodeInvalid, "the image of release %s is not on host %s any more", t.Release, h.Name)
	}
	text, err := h.render(l, t, info.Firmware)
	if err != nil {
		return err
	}
	_, err = l.DomainDefineXMLFlags(text, 0)
	return err
}

// maxDomainBytes caps a domain's description: ours have some 4 KiB.
const maxDomainBytes = 1 << 20

// observedXML is what of a domain somebody may have changed.
type observedXML struct {
	Memory struct {
		Unit  string `xml:"unit,attr"`
		Value int64  `xml:",chardata"`
	} `xml:"memory"`
	VCPU  int `xml:"vcpu"`
	Disks []struct {
		Serial string `xml:"serial"`
	} `xml:"devices>disk"`
	TPM *struct{} `xml:"devices>tpm"`
}

// drift says how a domain is not what its tags say.
func (l *link) drift(dom libvirt.Domain, t tags) (string, error) {
	text, err := l.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive)
	if err != nil {
		return "", err
	}
	return differs(text, t)
}

// differs says how a domain's description is not what its tags say.
func differs(description string, t tags) (string, error) {
	if len(description) > maxDomainBytes {
		return "", fmt.Errorf("the domain's description has %d bytes, at most %d", len(description), maxDomainBytes)
	}
	var o observedXML
	if err := xml.Unmarshal([]byte(description), &o); err != nil {
		return "", fmt.Errorf("reading the domain: %w", err)
	}
	serials := map[string]bool{}
	for _, d := range o.Disks {
		serials[d.Serial] = true
	}
	switch {
	case o.Memory.Unit != "KiB" || o.Memory.Value != t.MemoryBytes>>10:
		return fmt.Sprintf("the domain's memory is %d %s, not %d KiB", o.Memory.Value, o.Memory.Unit, t.MemoryBytes>>10), nil
	case o.VCPU != t.VCPUs:
		return fmt.Sprintf("the domain has %d processors, not %d", o.VCPU, t.VCPUs), nil
	case len(o.Disks) != len(diskSerials) || o.TPM == nil:
		return fmt.Sprintf("the domain has %d disks and a TPM: %t", len(o.Disks), o.TPM != nil), nil
	}
	for _, serial := range diskSerials {
		if !serials[serial] {
			return fmt.Sprintf("the domain has no disk %s", serial), nil
		}
	}
	return "", nil
}

// diskSerials are those that the guest knows its disks by.
var diskSerials = []string{"shed-system", "shed-data", "shed-config"}

// state answers what a domain does and why.
func (l *link) state(dom libvirt.Domain) (libvirt.DomainState, string, error) {
	s, reason, err := l.DomainGetState(dom, 0)
	state := libvirt.DomainState(s)
	switch state {
	case libvirt.DomainShutoff:
		return state, offReasons[libvirt.DomainShutoffReason(reason)], err
	case libvirt.DomainPaused:
		return state, fmt.Sprintf("the host has paused the machine (reason %d of libvirt)", reason), err
	}
	return state, "", err
}

// offReasons say why a machine is off that should be on.
var offReasons = map[libvirt.DomainShutoffReason]string{
	libvirt.DomainShutoffShutdown:  "the guest has shut down",
	libvirt.DomainShutoffDestroyed: "its power was cut on the host",
	libvirt.DomainShutoffCrashed:   "QEMU has crashed or was killed",
	libvirt.DomainShutoffFailed:    "it could not be started",
	libvirt.DomainShutoffDaemon:    "it ended while libvirtd did not run",
}

// active reports whether a domain has processes.
func active(s libvirt.DomainState) bool {
	return s != libvirt.DomainShutoff && s != libvirt.DomainCrashed && s != libvirt.DomainNostate
}
