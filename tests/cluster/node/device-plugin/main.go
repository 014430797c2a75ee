// A peer of NVIDIA's device plugin: advertises nvidia.com/gpu devices that do not exist. It comes when the kubelet has long reported
// its node for the first time, as NVIDIA's does, which is a pod.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1beta1 "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	endpoint = "lowtide-lab-gpu.sock"
)

type plugin struct {
	v1beta1.UnimplementedDevicePluginServer
	devices []*v1beta1.Device
}

func (p *plugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&v1beta1.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	answer := &v1beta1.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		log.Printf("allocates %v", container.DevicesIds)
		answer.ContainerResponses = append(answer.ContainerResponses, &v1beta1.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return answer, nil
}

func register() error {
	connection, err := grpc.NewClient("unix://"+v1beta1.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	within, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_, err = v1beta1.NewRegistrationClient(connection).Register(within, &v1beta1.RegisterRequest{
		Version: v1beta1.Version, Endpoint: endpoint, ResourceName: resource, Options: &v1beta1.DevicePluginOptions{},
	})
	return err
}

// serve offers the devices until somebody removes the socket: a kubelet that starts empties its folder.
func serve(p *plugin, socket string) error {
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	v1beta1.RegisterDevicePluginServer(server, p)
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Print(err)
		}
	}()
	for err := register(); err != nil; err = register() {
		time.Sleep(100 * time.Millisecond)
		if _, gone := os.Stat(socket); gone != nil {
			return gone
		}
	}
	log.Printf("registered %d of %s", len(p.devices), resource)
	for {
		time.Sleep(200 * time.Millisecond)
		if _, gone := os.Stat(socket); gone != nil {
			return gone
		}
	}
}

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	count := flag.Int("devices", 1, "how many devices")
	late := flag.Duration("late", 0, "how long to wait once the kubelet listens")
	flag.Parse()
	p := &plugin{}
	for n := range *count {
		p.devices = append(p.devices, &v1beta1.Device{ID: fmt.Sprintf("GPU-lab-%d", n), Health: v1beta1.Healthy})
	}
	for {
		if _, err := os.Stat(v1beta1.KubeletSocket); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(*late)
	for {
		log.Printf("begins again: %v", serve(p, filepath.Join(v1beta1.DevicePluginPath, endpoint)))
		time.Sleep(100 * time.Millisecond)
	}
}
