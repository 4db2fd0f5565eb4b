package kube

import (
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Connect says how the Kubernetes API is reached: by a file, or with a pod's service account where none is named. Name is
// what the API server is told of who asks.
func Connect(kubeconfig, name string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	// Whoever uses it watches a handful of kinds: far below this.
	config.QPS, config.Burst = 50, 100
	config.UserAgent = name
	return config, nil
}
