package standin

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Guests are machines of a test's own that run for the instances, since none of
// moto's does.
type Guests interface {
	// Launch starts an instance, Stop cuts its power, Start starts it again as it
	// was, and End ends it for good.
	Launch(Instance) error
	Stop(instance string) error
	Start(instance string) error
	End(instance string) error
	// EndorsementKey is the key of an instance's TPM, a DER SubjectPublicKeyInfo.
	EndorsementKey(ctx context.Context, instance string) ([]byte, error)
}

// Instance is what EC2 would boot.
type Instance struct {
	ID string
	// UefiData is that of its image.
	UefiData string
	UserData []byte
	// Root are the blocks of the image's snapshot by their index, each of
	// BlockBytes.
	Root map[int][]byte
	// Volumes are the root's and the data's, in that order.
	Volumes []Volume
	// Address is where its Elastic IP address leads to, on loopback.
	Address string
}

// Volume is a disk of an instance's.
type Volume struct {
	ID    string
	Bytes int64
}

// BlockBytes is the size of each of an image's blocks.
const BlockBytes = blockBytes

// boot has a guest run for the instance that RunInstances was answered with.
func (c *Cloud) boot(in *call, id string) error {
	i := Instance{ID: id}
	var err error
	if i.UserData, err = base64.StdEncoding.DecodeString(in.form.Get("UserData")); err != nil {
		return fmt.Errorf("reading user data: %w", err)
	}
	found, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "DescribeVolumes",
		url.Values{"Filter.1.Name": {"attachment.instance-id"}, "Filter.1.Value.1": {id}})
	if err != nil {
		return err
	}
	for _, device := range []string{in.form.Get("BlockDeviceMapping.1.DeviceName"), in.form.Get("BlockDeviceMapping.2.DeviceName")} {
		for _, item := range found.at("volumeSet").kids {
			if item.value("attachmentSet", "item", "device") != device {
				continue
			}
			size, err := strconv.ParseInt(item.value("size"), 10, 64)
			if err != nil {
				return fmt.Errorf("reading the size of a volume: %w", err)
			}
			i.Volumes = append(i.Volumes, Volume{ID: item.value("volumeId"), Bytes: size << 30})
		}
	}
	if len(i.Volumes) != 2 {
		return fmt.Errorf("instance %s has %d volumes, and its guest would have 2", id, len(i.Volumes))
	}
	c.mu.Lock()
	image := c.images[in.form.Get("ImageId")]
	i.UefiData, i.Address = image.uefiData, c.loopback[machineOf(in.form, "instance", c.o.MachineTag)]
	if s := c.snapshots[image.snapshot]; s != nil {
		i.Root = maps.Clone(s.blocks)
	}
	c.mu.Unlock()
	return c.o.Guests.Launch(i)
}

// machineOf is the machine that a request tags what it makes with.
func machineOf(form url.Values, kind, tag string) string {
	tags := tagsFor(form, kind)
	for name, values := range tags {
		if strings.HasSuffix(name, ".Key") && values[0] == tag {
			return tags.Get(strings.TrimSuffix(name, "Key") + "Value")
		}
	}
	return ""
}

// lead has an address that was allocated for a machine lead to loopback, where
// its guest is, in all answers from here on.
func (c *Cloud) lead(in *call, public string) {
	if c.o.Guests == nil {
		return
	}
	machine := machineOf(in.form, "elastic-ip", c.o.MachineTag)
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254)) //nolint:gosec // it only has to be free
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loopback[machine], c.public[public] = address, address
}

// led is an answer in which addresses lead to the guests.
func (c *Cloud) led(body []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for public, address := range c.public {
		body = bytes.ReplaceAll(body, []byte(">"+public+"<"), []byte(">"+address+"<"))
	}
	return body
}

// power passes on what moto was asked about instances.
func (c *Cloud) power(in *call, do func(instance string) error) (answer, *refusal) {
	out, refused := c.forward(in)
	if refused != nil || out.status != http.StatusOK || c.o.Guests == nil {
		return out, refused
	}
	for name, values := range in.form {
		if !strings.HasPrefix(name, "InstanceId.") {
			continue
		}
		if err := do(values[0]); err != nil {
			return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
		}
	}
	return out, nil
}

func (c *Cloud) start(instance string) error { return c.o.Guests.Start(instance) }
func (c *Cloud) stop(instance string) error  { return c.o.Guests.Stop(instance) }
func (c *Cloud) end(instance string) error   { return c.o.Guests.End(instance) }
