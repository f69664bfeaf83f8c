sync      layer=6614 unit=store wait(load,weights,matrix,vector) signal(load,weights)
