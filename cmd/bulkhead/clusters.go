package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/kube/inventory"
	"bulkhead/topology"
)

func newClusters(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "clusters",
		Short:   "What only the API of a Kubernetes cluster knows",
		Long:    "Brings what only a cluster's API knows to the control plane.",
		Example: "  bulkhead clusters follow --cluster local",
		RunE:    needsCommand,
	}
	c.AddCommand(newClustersFollow(a))
	return c
}

func newClustersFollow(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "follow",
		Short: "Tell the control plane of a cluster's namespaces, ports and services",
		Long: "Follows the labels of namespaces, the names of ports and the services of a cluster, and tells the server whenever one of them changes: network\n" +
			"policies that select namespaces or name ports are then judged, replayed and enforced by them. It runs until it is ended, beside the\n" +
			"control plane or anywhere that reaches both APIs.",
		Example: "  bulkhead clusters follow --cluster local --kubeconfig ~/.kube/config",
		Args:    cobra.NoArgs,
	}
	cluster := c.Flags().String("cluster", "local", "`NAME` of the cluster, as its agents have it")
	kubeconfig := c.Flags().String("kubeconfig", a.env("KUBECONFIG"), "`FILE` to reach the cluster with, instead of the pod's service account [KUBECONFIG]")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return inventory.Run(c.Context(), inventory.Options{
			Kubeconfig: *kubeconfig, Log: slog.New(slog.NewTextHandler(a.err, nil)),
			Told: func(ctx context.Context, objects []byte, services []inventory.Service) error {
				return a.tellInventory(ctx, *cluster, objects, services)
			},
		})
	}
	return c
}

// tellInventory connects each time: the server may have another address and certificate after it was started anew.
func (a *app) tellInventory(ctx context.Context, cluster string, objects []byte, services []inventory.Service) error {
	r, err := topology.ReadInventory("of the cluster", bytes.NewReader(objects))
	if err != nil {
		return err
	}
	client, err := a.connect()
	if err != nil {
		return err
	}
	if _, err := client.segments.PutInventory(ctx, request(inventoryOf(cluster, r, services))); err != nil {
		return fmt.Errorf("telling of the cluster: %w", err)
	}
	return nil
}

var protocolNumbers = map[string]uint32{"tcp": 6, "udp": 17, "sctp": 132}

func inventoryOf(cluster string, r *topology.Record, services []inventory.Service) *pb.PutInventoryRequest {
	out := &pb.PutInventoryRequest{Cluster: cluster}
	for _, n := range r.Namespaces {
		out.Namespaces = append(out.Namespaces, &pb.NamespaceLabels{Name: n.Name, Labels: n.Labels})
	}
	for _, w := range r.Workloads {
		m := &pb.WorkloadPorts{Workload: w.Name}
		for _, p := range w.Ports {
			if p.Port != 0 {
				m.Ports = append(m.Ports, &pb.NamedPort{Name: p.Name, Protocol: p.Protocol, Port: uint32(p.Port)})
			}
		}
		out.Workloads = append(out.Workloads, m)
	}
	for _, s := range services {
		if number := protocolNumbers[s.Protocol]; number != 0 {
			out.Services = append(out.Services, &pb.NetworkService{Address: s.Address, Protocol: number, Port: uint32(s.Port), Backends: s.Backends})
		}
	}
	return out
}
