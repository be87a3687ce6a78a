X = "x"  # how every row names the network that it is of
