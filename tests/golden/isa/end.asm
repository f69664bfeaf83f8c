end       layer=16161 wait(weights) signal(load,weights,matrix,vector,store)
