"""Says line by line what of a TorchServe folder runs with marq as it is."""
