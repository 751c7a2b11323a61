package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/aws/disk"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
)

// world is the provider on the stand-in, and a client of another program's that
// looks at what was made.
type world struct {
	cloud *standin.Cloud
	p     *aws.Provider
	ec2   *ec2.Client
	image providers.Image
}

func newWorld(t *testing.T, limits float64, more map[string]any) *world {
	t.Helper()
	python := os.Getenv("SHED_MOTO")
	if python == "" {
		t.Skip("starts moto, which make test installs: set SHED_MOTO")
	}
	c, err := standin.Start(t.Context(), standin.Options{
		Python: python, MachineTag: aws.MachineTag, DriftTag: aws.InstallationTag, Now: time.Now, Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{cloud: c, p: aws.New(aws.Options{Version: "test"})}
	settings := map[string]any{"region": "us-east-1", "access_key_id": "AKIAONE", "secret_access_key": "secret", "endpoint": c.URL}
	for k, v := range more {
		settings[k] = v
	}
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.p.Configure(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	w.ec2 = ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: sdk.String(c.URL), Credentials: credentials.NewStaticCredentialsProvider("AKIATWO", "secret", "")})
	// Five blocks, of which the second and the fourth are zeros.
	b := make([]byte, 4*disk.BlockBytes+9)
	for _, i := range []int{0, 2, 4} {
		b[i*disk.BlockBytes] = byte(i + 1)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := attest.Sum(b)
	w.image = providers.Image{Release: attest.ReleaseDigest(sum), Path: path, SHA256: sum, Bytes: int64(len(b))}
	return w
}

func (w *world) request(id string) providers.CreateRequest {
	return providers.CreateRequest{
		Installation: "shop", Machine: providers.MachineID(id), Generation: 1,
		Spec: providers.Spec{Release: w.image.Release, DataBytes: 5 << 30, Config: []byte("configuration")},
	}
}

func (w *world) create(t *testing.T, id string) (types.Instance, providers.Machine) {
	t.Helper()
	if err := w.p.EnsureImage(t.Context(), w.image, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.p.Create(t.Context(), w.request(id)); err != nil {
		t.Fatal(err)
	}
	m, err := w.p.Get(t.Context(), providers.MachineID(id))
	if err != nil {
		t.Fatal(err)
	}
	return w.instance(t, id), m
}

func (w *world) instance(t *testing.T, id string) types.Instance {
	t.Helper()
	out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: sdk.String("tag:" + aws.MachineTag), Values: []string{id}}, {Name: sdk.String("instance-state-name"), Values: []string{"running"}},
	}})
	if err != nil || len(out.Reservations) != 1 || len(out.Reservations[0].Instances) != 1 {
		t.Fatalf("not one instance: %+v, %v", out, err)
	}
	return out.Reservations[0].Instances[0]
}

func TestWhatAMachineIs(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000, "confidential": "sev-snp"})
	i, m := w.create(t, "one")
	if o := i.MetadataOptions; o.HttpTokens != types.HttpTokensStateRequired || *o.HttpPutResponseHopLimit != 1 {
		t.Errorf("metadata %+v", o)
	}
	if i.KeyName != nil {
		t.Errorf("it has the key pair %s", *i.KeyName)
	}
	if i.CpuOptions == nil || i.CpuOptions.AmdSevSnp != types.AmdSevSnpSpecificationEnabled {
		t.Errorf("CPU options %+v", i.CpuOptions)
	}
	groups, err := w.ec2.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*i.NetworkInterfaces[0].Groups[0].GroupId}})
	if err != nil || len(groups.SecurityGroups) != 1 {
		t.Fatalf("%+v, %v", groups, err)
	}
	for _, open := range groups.SecurityGroups[0].IpPermissions {
		if *open.IpProtocol != "tcp" || *open.FromPort != 443 || *open.ToPort != 443 {
			t.Errorf("open: %+v", open)
		}
	}
	for _, b := range i.BlockDeviceMappings {
		if data := sdk.ToString(b.DeviceName) == "/dev/sdf"; sdk.ToBool(b.Ebs.DeleteOnTermination) == data {
			t.Errorf("%s goes with the instance: %t", *b.DeviceName, *b.Ebs.DeleteOnTermination)
		}
	}
	w.checkVolumes(t, m)
	kinds := map[providers.ResourceKind]int{}
	for _, r := range m.Resources {
		kinds[r.Kind]++
	}
	for _, kind := range []providers.ResourceKind{providers.ResourceMachine, providers.ResourceDisk, providers.ResourceDataDisk, providers.ResourceNIC, providers.ResourceAddress} {
		if kinds[kind] != 1 {
			t.Errorf("%d of %s", kinds[kind], kind)
		}
	}
	if m.Drift != "" {
		t.Errorf("a new machine has drifted: %s", m.Drift)
	}
	if err := w.p.Delete(t.Context(), "one", false); err != nil {
		t.Fatal(err)
	}
	left, err := w.ec2.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: sdk.String("group-name"), Values: []string{"shed-shop"}}}})
	if err != nil || len(left.SecurityGroups) != 0 {
		t.Errorf("the security group outlives the last machine: %v", err)
	}
}

func (w *world) checkVolumes(t *testing.T, m providers.Machine) {
	t.Helper()
	for _, r := range m.Resources {
		if r.Kind != providers.ResourceDataDisk {
			continue
		}
		out, err := w.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{r.ID}})
		if err != nil || len(out.Volumes) != 1 {
			t.Fatal(err)
		}
		if v := out.Volumes[0]; !sdk.ToBool(v.Encrypted) || sdk.ToInt32(v.Size) != 5 || v.VolumeType != types.VolumeTypeGp3 || sdk.ToString(v.Attachments[0].Device) != "/dev/sdf" {
			t.Errorf("the data volume: %+v", v)
		}
	}
}

// The image is what was asked for, and its snapshot holds the disk.
func TestImage(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000})
	// Given up after the first block, it goes on.
	ctx, cancel := context.WithCancel(t.Context())
	err := w.p.EnsureImage(ctx, w.image, func(int64, int64) { cancel() })
	t.Logf("given up: %v", err)
	if err := w.p.EnsureImage(t.Context(), w.image, nil); err != nil {
		t.Fatal(err)
	}
	out, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || len(out.Images) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	i := out.Images[0]
	if i.BootMode != types.BootModeValuesUefi || i.TpmSupport != types.TpmSupportValuesV20 || !*i.EnaSupport || i.Architecture != types.ArchitectureValuesX8664 {
		t.Errorf("image %+v", i)
	}
	blocks := w.cloud.Blocks(*i.BlockDeviceMappings[0].Ebs.SnapshotId)
	if len(blocks) != 3 || blocks[0][0] != 1 || blocks[2][0] != 3 || blocks[4][0] != 5 {
		t.Errorf("%d blocks", len(blocks))
	}
}

// A zone without room is passed over, and all of them are CAPACITY; what was
// allocated for the machine is given back.
func TestZones(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000})
	w.cloud.FillZone("us-east-1a")
	i, _ := w.create(t, "one")
	if zone := *i.Placement.AvailabilityZone; zone != "us-east-1b" {
		t.Errorf("it is in %s", zone)
	}
	w.cloud.FillZone("")
	_, err := w.p.Create(t.Context(), w.request("two"))
	if providers.CodeOf(err) != providers.CodeCapacity || providers.ScopeOf(err) != providers.ScopeRegion {
		t.Errorf("got %v", err)
	}
	page, err := w.p.List(t.Context(), "shop", "addresses:")
	if err != nil || len(page.Resources) != 1 || page.Resources[0].Machine != "one" {
		t.Errorf("addresses %+v, %v", page.Resources, err)
	}
}

// Twelve machines at once, at the documented rates: none is refused as too many.
func TestPacedAsEC2Wants(t *testing.T) {
	w := newWorld(t, 1, map[string]any{"addresses": "private"})
	if err := w.p.EnsureImage(t.Context(), w.image, nil); err != nil {
		t.Fatal(err)
	}
	const machines = 12
	errs := make(chan error, machines)
	for n := range machines {
		go func() {
			_, err := w.p.Create(t.Context(), w.request("m"+string(rune('a'+n))))
			errs <- err
		}()
	}
	for range machines {
		if err := <-errs; err != nil {
			t.Errorf("Create: %v", err)
		}
	}
}

// A volume whose instance somebody ended is never taken for room.
func TestCreateNeverTakesSomebodysData(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000})
	i, m := w.create(t, "one")
	if _, err := w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.p.Get(t.Context(), "one"); providers.CodeOf(err) != providers.CodeNotFound {
		t.Errorf("Get: %v", err)
	}
	_, err := w.p.Create(t.Context(), w.request("one"))
	var e *providers.Error
	if !errors.As(err, &e) || e.Code != providers.CodeConflict || !strings.Contains(e.Message, "data volume") {
		t.Errorf("Create: %v", err)
	}
	w.checkThere(t, m)
}

func (w *world) checkThere(t *testing.T, m providers.Machine) {
	t.Helper()
	for _, r := range m.Resources {
		if r.Kind == providers.ResourceDataDisk {
			if out, err := w.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{r.ID}}); err != nil || len(out.Volumes) != 1 {
				t.Errorf("the data is gone: %v", err)
			}
		}
	}
}

// The stand-in refuses the same token for something else, as EC2 does, and the
// provider says so instead of making a second machine.
func TestATokenIsForOneRequest(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000})
	if err := w.p.EnsureImage(t.Context(), w.image, nil); err != nil {
		t.Fatal(err)
	}
	images, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	run := func(size types.InstanceType) (string, error) {
		out, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
			ImageId: images.Images[0].ImageId, InstanceType: size, MinCount: sdk.Int32(1), MaxCount: sdk.Int32(1), ClientToken: sdk.String("token"),
		})
		if err != nil {
			return "", err
		}
		return *out.Instances[0].InstanceId, nil
	}
	first, err := run("m6a.large")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := run("m6a.large"); err != nil || again != first {
		t.Errorf("the same again made %s, not %s: %v", again, first, err)
	}
	if _, err := run("c6a.large"); !refusal.Is(err, "IdempotentParameterMismatch") {
		t.Errorf("another with the same token: %v", err)
	}
}

func TestSpot(t *testing.T) {
	w := newWorld(t, 0, map[string]any{"api_limits": 1000, "market": "spot", "addresses": "private"})
	i, m := w.create(t, "one")
	if i.InstanceLifecycle != types.InstanceLifecycleTypeSpot {
		t.Errorf("it is %q", i.InstanceLifecycle)
	}
	if m.Endpoint != *i.PrivateIpAddress+":443" {
		t.Errorf("it is reached at %s, and has %s", m.Endpoint, *i.PrivateIpAddress)
	}
}
