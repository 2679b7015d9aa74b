"""The kubelet's side: slots, Allocate, PreStart, CDI files, node capacity and GPUNode. Talks to the driver only through
the node agent."""
